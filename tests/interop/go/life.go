package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand"
	"os"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

// What an application does with the client all its life: the parts of Life.java that this client can do.

const patience = 100 * time.Second

// The brokers' delay levels 1 to 6.
var levelMs = []int64{0, 1000, 2000, 1000, 1000, 1000, 3000}

var all = consumer.MessageSelector{Type: consumer.TAG, Expression: "*"}

type application struct {
	namesrv string
	p       rocketmq.Producer
}

func life(namesrv, out string) {
	writer := open(out)
	a := &application{namesrv, newProducer("life-go", namesrv, 10*time.Second, 0)}
	parts := map[string]func() int{
		"delay": a.delay, "retry": a.retry, "orderly": a.orderly, "broadcast": a.broadcast, "sql92": a.sql92,
		"tags": a.tags, "pull": a.pull, "batch": a.batch, "async-and-oneway": a.asyncAndOneway,
		"request-reply": a.requestReply, "rebalance": a.rebalance, "big-bodies": a.bigBodies,
	}
	var wait sync.WaitGroup
	for name, part := range parts {
		wait.Add(1)
		go func(name string, part func() int) {
			defer wait.Done()
			start := time.Now()
			fields := map[string]interface{}{"part": name}
			defer func() {
				if e := recover(); e != nil {
					fmt.Fprintln(os.Stderr, name, e)
					fields["error"] = fmt.Sprint(e)
				}
				fields["ms"] = time.Since(start).Milliseconds()
				writer.write(fields)
			}()
			fields["messages"] = part()
		}(name, part)
	}
	wait.Wait()
}

func (a *application) delay() int {
	topic := a.topic("LifeGoDelay")
	s := &seen{}
	c := a.push("life-go-delay", topic, all, s)
	levels := []int{1, 2, 6, 99}
	sentAt := map[int]time.Time{}
	for i := 0; i < 40; i++ {
		m := message(topic, i)
		m.WithDelayTimeLevel(levels[i%4])
		sentAt[i] = time.Now()
		a.send(m)
	}
	s.await(40)
	// By level and queue, in the order in which they came.
	order := map[[2]int][]*primitive.MessageExt{}
	for _, m := range s.once() {
		i := index(m)
		same(topic, i, m)
		level := levels[i%4]
		if level > 6 {
			level = 6
		}
		wait := levelMs[level]
		// The sender's clock is read to the nanosecond, the broker's to the millisecond.
		check(s.arrived(m).Sub(sentAt[i]).Milliseconds() >= wait-1, "message %d came early", i)
		// When it is stored is the broker's doing; when it arrives, that of a busy machine too.
		late := m.StoreTimestamp - m.BornTimestamp - wait
		check(late >= 0 && late < 5000, "message %d was stored %d ms after it was due", i, late)
		equal(strconv.Itoa(level), m.GetProperty(primitive.PropertyDelayTimeLevel), "the level")
		place := [2]int{int(wait), m.Queue.QueueId}
		order[place] = append(order[place], m)
	}
	for place, messages := range order {
		sort.Slice(messages, func(x, y int) bool { return messages[x].QueueOffset < messages[y].QueueOffset })
		for n := 1; n < len(messages); n++ {
			check(index(messages[n-1]) < index(messages[n]), "%v: the order of a level", place)
		}
	}
	must(c.Shutdown())
	return 40
}

func (a *application) retry() int {
	topic := a.topic("LifeGoRetry")
	s := &seen{}
	// The group's first consumer creates the retry topic; this client looks at it when it starts, and then not for long.
	must(a.push("life-go-retry", topic, all, &seen{}).Shutdown())
	c := newConsumer(a.namesrv, "life-go-retry", topic, all,
		func(ctx context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			s.add(messages)
			kind := index(messages[0]) % 4
			// 0 succeeds, 1 fails once, 2 always fails, 3 is given up at once.
			if kind == 3 {
				concurrently, _ := primitive.GetConcurrentlyCtx(ctx)
				concurrently.DelayLevelWhenNextConsume = -1
			}
			if index(messages[0]) >= 0 && (kind > 1 || kind == 1 && messages[0].ReconsumeTimes == 0) {
				return consumer.ConsumeRetryLater, nil
			}
			return consumer.ConsumeSuccess, nil
		}, consumer.WithMaxReconsumeTimes(2))
	sent := map[int]*primitive.SendResult{}
	for i := 0; i < 12; i++ {
		sent[i] = a.send(message(topic, i))
	}
	s.await(3 * 7)
	times := map[int]int32{}
	for _, m := range s.settled() {
		i := index(m)
		same(topic, i, m)
		equal(times[i], m.ReconsumeTimes, fmt.Sprintf("how often message %d was tried", i))
		times[i]++
		equal(sent[i].MsgID, m.MsgId, "the id of a retried message")
		if m.ReconsumeTimes > 0 {
			equal(topic, m.GetProperty(primitive.PropertyRetryTopic), "where it came from")
			equal(sent[i].OffsetMsgID, m.GetProperty(primitive.PropertyOriginMessageId), "its first id")
		}
	}
	for i, deliveries := range []int32{1, 2, 3, 1} {
		equal(deliveries, times[i], fmt.Sprintf("deliveries of message %d", i))
	}
	must(c.Shutdown())
	dead := &seen{}
	c = a.push("life-go-dead", "%DLQ%life-go-retry", all, dead)
	dead.await(6)
	for _, m := range dead.once() {
		i := index(m)
		same("%DLQ%life-go-retry", i, m)
		check(i%4 > 1, "message %d is dead", i)
		equal(map[bool]int32{true: 3, false: 1}[i%4 == 2], m.ReconsumeTimes, "tries of a dead message")
		equal(topic, m.GetProperty(primitive.PropertyRetryTopic), "where it came from")
	}
	must(c.Shutdown())
	return s.size() + 6
}

func (a *application) orderly() int {
	topic := a.topic("LifeGoOrderly")
	s := &seen{}
	var mutex sync.Mutex
	tries := map[int][]string{}
	c := newConsumer(a.namesrv, "life-go-orderly", topic, all,
		func(ctx context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			m := messages[0]
			s.add(messages)
			if index(m) < 0 {
				return consumer.ConsumeSuccess, nil
			}
			mutex.Lock()
			tries[m.Queue.QueueId] = append(tries[m.Queue.QueueId], fmt.Sprintf("%d/%d", index(m), m.ReconsumeTimes))
			mutex.Unlock()
			orderly, _ := primitive.GetOrderlyCtx(ctx)
			orderly.SuspendCurrentQueueTimeMillis = 200
			// 8 is suspended once, 9 until it is given up.
			if index(m) == 9 || index(m) == 8 && m.ReconsumeTimes == 0 {
				return consumer.SuspendCurrentQueueAMoment, nil
			}
			return consumer.ConsumeSuccess, nil
		}, consumer.WithConsumerOrder(true), consumer.WithMaxReconsumeTimes(2))
	p := newProducer("life-go-orders", a.namesrv, 10*time.Second, 0, producer.WithQueueSelector(producer.NewHashQueueSelector()))
	byQueue := map[int][]int{}
	for i := 0; i < 100; i++ {
		m := message(topic, i)
		m.WithShardingKey("order-" + strconv.Itoa(i%8))
		result, err := p.SendSync(background, m)
		must(err)
		byQueue[result.MessageQueue.QueueId] = append(byQueue[result.MessageQueue.QueueId], i)
	}
	check(len(byQueue) > 1, "the keys go to several queues")
	s.await(100 + 1 + 3)
	for _, m := range s.settled() {
		same(topic, index(m), m)
		equal("order-"+strconv.Itoa(index(m)%8), m.GetShardingKey(), "the sharding key")
	}
	for queue, indexes := range byQueue {
		var expected []string
		for _, i := range indexes {
			// This client gives up one later than Java's.
			for time := 0; time < map[int]int{8: 1, 9: 3}[i]+1; time++ {
				expected = append(expected, fmt.Sprintf("%d/%d", i, time))
			}
		}
		equal(expected, tries[queue], fmt.Sprintf("the order of queue %d", queue))
	}
	must(c.Shutdown())
	dead := &seen{}
	c = a.push("life-go-orderly-dead", "%DLQ%life-go-orderly", all, dead)
	dead.await(1)
	same("%DLQ%life-go-orderly", 9, dead.once()[0])
	must(c.Shutdown())
	must(p.Shutdown())
	return s.size() + 1
}

func (a *application) broadcast() int {
	topic := a.topic("LifeGoBroadcast")
	listeners := []*seen{{}, {}}
	var consumers []rocketmq.PushConsumer
	for _, s := range listeners {
		consumers = append(consumers, a.push("life-go-broadcast", topic, all, s, consumer.WithConsumerModel(consumer.BroadCasting)))
	}
	for i := 0; i < 40; i++ {
		a.send(message(topic, i))
	}
	for n, s := range listeners {
		s.await(40)
		for _, m := range s.once() {
			same(topic, index(m), m)
		}
		must(consumers[n].Shutdown())
	}
	return 80
}

func (a *application) sql92() int {
	topic := a.topic("LifeGoSql")
	expressions := []struct {
		text  string
		holds func(int) bool
	}{
		{"(price BETWEEN 10 AND 20 AND colour IN ('red', 'blue')) OR (TAGS = 'TagA' AND price IS NOT NULL)",
			func(i int) bool { return i >= 10 && i <= 20 && i%3 < 2 || i%5 == 0 && i != 30 }},
		{"NOT (price > 5) AND colour <> 'it''s'", func(i int) bool { return i <= 5 && i%3 < 2 }},
	}
	var filtered []*seen
	var consumers []rocketmq.PushConsumer
	for n, expression := range expressions {
		s := &seen{}
		filtered = append(filtered, s)
		selector := consumer.MessageSelector{Type: consumer.SQL92, Expression: expression.text}
		consumers = append(consumers, a.push(fmt.Sprintf("life-go-sql-%d", n), topic, selector, s))
	}
	for i := 0; i < 60; i++ {
		m := message(topic, i)
		if i != 30 {
			m.WithProperty("price", strconv.Itoa(i))
		}
		m.WithProperty("colour", []string{"red", "blue", "it's"}[i%3])
		a.send(m)
	}
	compared := 0
	for n, expression := range expressions {
		compared += holdAgainst(topic, 60, expression.holds, filtered[n])
		must(consumers[n].Shutdown())
	}
	return compared
}

func (a *application) tags() int {
	topic := a.topic("LifeGoTags")
	expressions := []struct {
		text  string
		holds func(int) bool
	}{
		{"TagA || TagC", func(i int) bool { return i < 50 && (i%5 == 0 || i%5 == 2) }},
		// The hash of this one is that of another.
		{"Aa", func(i int) bool { return i >= 50 && i%2 == 0 }},
		{"*", func(i int) bool { return true }},
	}
	var filtered []*seen
	var consumers []rocketmq.PushConsumer
	for n, expression := range expressions {
		s := &seen{}
		filtered = append(filtered, s)
		selector := consumer.MessageSelector{Type: consumer.TAG, Expression: expression.text}
		consumers = append(consumers, a.push(fmt.Sprintf("life-go-tags-%d", n), topic, selector, s))
	}
	for i := 0; i < 60; i++ {
		m := message(topic, i)
		if i >= 50 {
			m.WithTag([]string{"Aa", "BB"}[i%2])
		}
		a.send(m)
	}
	compared := 0
	for n, expression := range expressions {
		compared += holdAgainst(topic, 60, expression.holds, filtered[n])
		must(consumers[n].Shutdown())
	}
	return compared
}

// Exactly the messages that are expected have come, each once and whole.
func holdAgainst(topic string, count int, holds func(int) bool, s *seen) int {
	var wanted, got []int
	for i := 0; i < count; i++ {
		if holds(i) {
			wanted = append(wanted, i)
		}
	}
	s.await(len(wanted))
	for _, m := range s.once() {
		got = append(got, index(m))
		if topic != "LifeGoTags" || index(m) < 50 {
			same(topic, index(m), m)
		}
	}
	sort.Ints(got)
	equal(wanted, got, "what passes the filter")
	return len(got)
}

func (a *application) pull() int {
	topic := a.topic("LifeGoPull")
	ends := map[primitive.MessageQueue]int64{}
	for i := 0; i < 60; i++ {
		result := a.send(message(topic, i))
		ends[*result.MessageQueue] = result.QueueOffset + 1
	}
	options := []consumer.Option{
		consumer.WithGroupName("life-go-pull"),
		consumer.WithInstance(instance("life-go-pull")),
		consumer.WithNsResolver(primitive.NewPassthroughResolver([]string{a.namesrv})),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
	}
	c, err := rocketmq.NewPullConsumer(options...)
	must(err)
	must(c.Subscribe(topic, all))
	must(c.Start())
	got := map[int]bool{}
	for queue, end := range ends {
		queue := queue
		for at := int64(0); at < end; {
			result, err := c.PullFrom(background, &queue, at, 7)
			must(err)
			check(result.NextBeginOffset > at, "a pull at %d goes on at %d", at, result.NextBeginOffset)
			equal(end, result.MaxOffset, "the end told by a pull")
			for _, m := range result.GetMessageExts() {
				if index(m) < 0 {
					continue
				}
				same(topic, index(m), m)
				check(!got[index(m)], "message %d came twice", index(m))
				got[index(m)] = true
			}
			at = result.NextBeginOffset
		}
		must(c.UpdateOffset(&queue, end-3))
		offset, err := c.CurrentOffset(&queue)
		must(err)
		equal(end-3, offset, "the offset of a queue")
	}
	equal(60, len(got), "messages that were pulled")
	must(c.PersistOffset(background, topic))
	must(c.Shutdown())
	return len(got)
}

func (a *application) batch() int {
	topic := a.topic("LifeGoBatch")
	s := &seen{}
	c := a.push("life-go-batch", topic, all, s)
	places := map[int]int64{}
	for n := 0; n < 4; n++ {
		var messages []*primitive.Message
		for i := 25 * n; i < 25*n+25; i++ {
			messages = append(messages, message(topic, i))
		}
		result, err := a.p.SendSync(background, messages...)
		must(err)
		equal(primitive.SendOK, result.Status, "the status of a batch")
		equal(25, len(strings.Split(result.OffsetMsgID, ",")), "offset ids of a batch")
		for m := 0; m < 25; m++ {
			places[25*n+m] = result.QueueOffset + int64(m)
		}
	}
	s.await(100)
	for _, m := range s.settled() {
		same(topic, index(m), m)
		equal(places[index(m)], m.QueueOffset, "the place of a member")
	}
	equal(100, len(s.indexes()), "different members")
	equal(100, s.size(), "members")
	must(c.Shutdown())
	return 100
}

func (a *application) asyncAndOneway() int {
	topic := a.topic("LifeGoAsync")
	s := &seen{}
	c := a.push("life-go-async", topic, all, s, consumer.WithConsumeMessageBatchMaxSize(8))
	var mutex sync.Mutex
	sent := map[int]*primitive.SendResult{}
	var left sync.WaitGroup
	var failed atomic.Int64
	for i := 0; i < 200; i++ {
		i := i
		left.Add(1)
		must(a.p.SendAsync(background, func(_ context.Context, result *primitive.SendResult, err error) {
			defer left.Done()
			if err != nil {
				failed.Add(1)
				return
			}
			mutex.Lock()
			sent[i] = result
			mutex.Unlock()
		}, message(topic, i)))
	}
	for i := 200; i < 300; i++ {
		must(a.p.SendOneWay(background, message(topic, i)))
	}
	left.Wait()
	equal(int64(0), failed.Load(), "sends that failed")
	s.await(300)
	for _, m := range s.once() {
		i := index(m)
		same(topic, i, m)
		if i < 200 {
			equal(sent[i].MsgID, m.MsgId, "its id")
			equal(sent[i].QueueOffset, m.QueueOffset, "its offset")
			equal(sent[i].MessageQueue.QueueId, m.Queue.QueueId, "its queue")
		}
	}
	must(c.Shutdown())
	return 300
}

func (a *application) requestReply() int {
	topic := a.topic("LifeGoRequest")
	replier := newProducer("life-go-replier", a.namesrv, 10*time.Second, 0)
	asker := newProducer("life-go-asker", a.namesrv, 10*time.Second, 0)
	// This client registers a second after its start with the brokers that it knows by then.
	a.sendBy(asker, message(topic, -1))
	a.sendBy(replier, message(topic, -1))
	time.Sleep(2 * time.Second)
	c := newConsumer(a.namesrv, "life-go-replier", topic, all,
		func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			for _, m := range messages {
				if index(m) < 0 || index(m) >= 100 {
					continue
				}
				reply, err := consumer.CreateReplyMessage(m, nil)
				must(err)
				reply.Body = append([]byte("reply to "), m.Body...)
				reply.WithProperty("index", m.GetProperty("index"))
				a.sendBy(replier, reply)
			}
			return consumer.ConsumeSuccess, nil
		})
	replied := func(i int, reply *primitive.Message, err error) {
		must(err)
		equal("reply to "+string(message(topic, i).Body), string(reply.Body), "the reply")
		equal(strconv.Itoa(i), reply.GetProperty("index"), "the reply's property")
	}
	for i := 0; i < 10; i++ {
		reply, err := asker.Request(background, 15*time.Second, message(topic, i))
		replied(i, reply, err)
	}
	// Nobody replies to this one.
	_, err := asker.Request(background, 1500*time.Millisecond, message(topic, 100))
	check(err != nil, "a request without a reply ends with an error")
	must(c.Shutdown())
	must(asker.Shutdown())
	must(replier.Shutdown())
	return 10
}

func (a *application) rebalance() int {
	topic := a.topic("LifeGoRebalance")
	first, second := &seen{}, &seen{}
	var queues [2]atomic.Int64
	start := func(n int, s *seen) rocketmq.PushConsumer {
		average := func(group, client string, queue []*primitive.MessageQueue, clients []string) []*primitive.MessageQueue {
			own := consumer.AllocateByAveragely(group, client, queue, clients)
			if len(queue) > 0 && queue[0].Topic == topic {
				queues[n].Store(int64(len(own)))
			}
			return own
		}
		return a.push("life-go-rebalance", topic, all, s, consumer.WithStrategy(average))
	}
	shared := func(what string, x, y int64) {
		until(what, func() bool { return queues[0].Load() == x && queues[1].Load() == y })
		// Taken up after it is computed.
		time.Sleep(time.Second)
	}
	x := start(0, first)
	shared("four queues for one", 4, 0)
	y := start(1, second)
	shared("two queues for each", 2, 2)
	for i := 0; i < 100; i++ {
		a.send(message(topic, i))
	}
	awaitAll(100, first, second)
	check(first.size() > 0 && second.size() > 0, "both have got some: %d, %d", first.size(), second.size())
	must(y.Shutdown())
	shared("four queues for the one that stays", 4, 2)
	for i := 100; i < 200; i++ {
		a.send(message(topic, i))
	}
	awaitAll(200, first, second)
	// What a member has taken and not yet committed when its queue changes hands may come to the next one too; nothing
	// else comes twice.
	ids := map[string]bool{}
	for _, one := range []*seen{first, second} {
		for _, m := range one.once() {
			same(topic, index(m), m)
			check(one == first || index(m) < 100, "message %d came to one that had gone", index(m))
			ids[m.MsgId] = true
		}
	}
	equal(200, len(ids), "messages of the group")
	must(x.Shutdown())
	return 200
}

func (a *application) bigBodies() int {
	topic := a.topic("LifeGoBig")
	p := newProducer("life-go-big", a.namesrv, 10*time.Second, 0)
	random := rand.New(rand.NewSource(1))
	sent := map[int][]byte{}
	for i, length := range []int{4095, 4096, 4097, 100_000, 3 << 20, 1 << 20} {
		body := bytes.Repeat([]byte{byte('a' + i)}, length)
		if i == 5 {
			random.Read(body)
		}
		m := message(topic, i)
		m.Body = body
		sent[i] = body
		a.sendBy(p, m)
	}
	s := &seen{}
	c := a.push("life-go-big", topic, all, s)
	s.await(len(sent))
	for _, m := range s.once() {
		check(bytes.Equal(sent[index(m)], m.Body), "the body of big message %d", index(m))
		equal(message(topic, index(m)).GetKeys(), m.GetKeys(), "its keys")
	}
	over := message(topic, 7)
	over.Body = make([]byte, 4<<20+1)
	random.Read(over.Body)
	result, err := p.SendSync(background, over)
	check(err != nil || result.Status != primitive.SendOK, "a body that is too long is refused")
	must(c.Shutdown())
	must(p.Shutdown())
	return len(sent)
}

// seen is what a consumer was given, without the messages that only create their topics.
type seen struct {
	mutex sync.Mutex
	all   []*primitive.MessageExt
	times map[*primitive.MessageExt]time.Time
}

func (s *seen) add(messages []*primitive.MessageExt) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, m := range messages {
		if index(m) < 0 {
			continue
		}
		s.all = append(s.all, m)
		if s.times == nil {
			s.times = map[*primitive.MessageExt]time.Time{}
		}
		s.times[m] = time.Now()
	}
}

func (s *seen) size() int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return len(s.all)
}

// awaitAll waits until so many different messages have come to the group.
func awaitAll(count int, group ...*seen) {
	until(fmt.Sprintf("%d messages of the group", count), func() bool {
		indexes := map[int]bool{}
		for _, s := range group {
			s.mutex.Lock()
			for _, m := range s.all {
				indexes[index(m)] = true
			}
			s.mutex.Unlock()
		}
		return len(indexes) >= count
	})
}

func (s *seen) arrived(m *primitive.MessageExt) time.Time {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.times[m]
}

func (s *seen) await(count int) {
	until(fmt.Sprintf("message %d", count), func() bool { return s.size() >= count })
}

// settled gives all of them, a while after the last that was waited for.
func (s *seen) settled() []*primitive.MessageExt {
	time.Sleep(300 * time.Millisecond)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return append([]*primitive.MessageExt(nil), s.all...)
}

// once gives them as settled does, each once.
func (s *seen) once() []*primitive.MessageExt {
	messages, ids := s.settled(), map[string]bool{}
	for _, m := range messages {
		check(!ids[m.MsgId], "message %d came twice", index(m))
		ids[m.MsgId] = true
	}
	return messages
}

func (s *seen) indexes() map[int]bool {
	indexes := map[int]bool{}
	for _, m := range s.settled() {
		indexes[index(m)] = true
	}
	return indexes
}

func same(topic string, i int, got *primitive.MessageExt) {
	expected := message(topic, i)
	equal(topic, got.Topic, "the topic")
	equal(string(expected.Body), string(got.Body), "the body")
	equal(expected.GetTags(), got.GetTags(), "the tag")
	equal(expected.GetKeys(), got.GetKeys(), "the keys")
	equal(expected.Flag, got.Flag, "the flag")
	for _, name := range []string{"index", "\u5c5e\u6027"} {
		equal(expected.GetProperty(name), got.GetProperty(name), "property "+name)
	}
	now := time.Now().UnixMilli()
	check(got.BornTimestamp > now-600_000 && got.BornTimestamp <= now, "born at %d", got.BornTimestamp)
	check(got.StoreTimestamp >= got.BornTimestamp-50 && got.StoreTimestamp <= now, "stored at %d", got.StoreTimestamp)
	check(strings.HasPrefix(got.BornHost, "127.0.0.1:"), "born at %s", got.BornHost)
}

func index(m *primitive.MessageExt) int {
	return number(m.GetProperty("index"))
}

// topic creates a topic by a message that everybody leaves out: a consumer of this client does not start without its topic.
func (a *application) topic(topic string) string {
	a.send(message(topic, -1))
	return topic
}

func (a *application) send(m *primitive.Message) *primitive.SendResult {
	return a.sendBy(a.p, m)
}

func (a *application) sendBy(p rocketmq.Producer, m *primitive.Message) *primitive.SendResult {
	result, err := p.SendSync(background, m)
	must(err)
	equal(primitive.SendOK, result.Status, "the status of a send")
	return result
}

func (a *application) push(group, topic string, selector consumer.MessageSelector, s *seen, more ...consumer.Option) rocketmq.PushConsumer {
	return newConsumer(a.namesrv, group, topic, selector,
		func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			s.add(messages)
			return consumer.ConsumeSuccess, nil
		}, more...)
}

func until(what string, holds func() bool) {
	for end := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		check(time.Now().Before(end), "waited in vain for %s", what)
	}
}

func check(holds bool, format string, values ...interface{}) {
	if !holds {
		panic(fmt.Sprintf(format, values...))
	}
}

func equal(expected, found interface{}, what string) {
	check(reflect.DeepEqual(expected, found), "%s: expected %v, found %v", what, expected, found)
}
