// The original Go client at work: the same commands and output as Interop.java.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"
)

var background = context.Background()

func main() {
	rlog.SetLogLevel("error")
	args := os.Args[2:]
	switch os.Args[1] {
	case "produce":
		produce(args[0], args[1], number(args[2]), args[3])
	case "load":
		load(args[0], args[1], number(args[2]), args[3])
	case "consume":
		consume(args[0], args[1], args[2], number(args[3]), number(args[4]), args[5])
	case "transact", "leave", "answer":
		transactions(os.Args[1], args)
	case "life":
		life(args[0], args[2])
	default:
		panic(os.Args[1])
	}
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	must(err)
	return n
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// lines writes JSON objects, one a line, each at once.
type lines struct {
	mutex sync.Mutex
	file  *os.File
}

func open(path string) *lines {
	file, err := os.Create(path)
	must(err)
	return &lines{file: file}
}

func (l *lines) write(fields map[string]interface{}) {
	text, err := json.Marshal(fields)
	must(err)
	l.mutex.Lock()
	defer l.mutex.Unlock()
	writer := bufio.NewWriter(l.file)
	_, _ = writer.Write(append(text, '\n'))
	must(writer.Flush())
}

// ending says when one ends that goes on until it is told.
type ending struct {
	end    time.Time
	enough string
}

func newEnding(seconds int, out string) ending {
	return ending{time.Now().Add(time.Duration(seconds) * time.Second), out + ".enough"}
}

func (e ending) isDue() bool {
	_, err := os.Stat(e.enough)
	return err == nil || time.Now().After(e.end)
}

func message(topic string, i int) *primitive.Message {
	message := primitive.NewMessage(topic, []byte(fmt.Sprintf("message %d \u6d88\u606f \u00e9\u00e8 \U0001f680", i)))
	message.WithTag("Tag" + string(rune('A'+(i+5)%5)))
	message.WithKeys([]string{fmt.Sprintf("key-%d", i), fmt.Sprintf("\u952e-%d", i)})
	message.WithProperty("index", strconv.Itoa(i))
	message.WithProperty("\u5c5e\u6027", fmt.Sprintf("\u503c=%d; \"quoted\" \\ \ttab", i))
	message.Flag = int32(i)
	return message
}

var instances atomic.Int64

// instance names a client of its own: those of one name share their connections and may not share a group.
func instance(group string) string {
	return fmt.Sprintf("%s-%d-%d", group, os.Getpid(), instances.Add(1))
}

func newProducer(group, namesrv string, timeout time.Duration, retries int, more ...producer.Option) rocketmq.Producer {
	options := append([]producer.Option{
		producer.WithGroupName(group),
		producer.WithInstanceName(instance(group)),
		producer.WithNsResolver(primitive.NewPassthroughResolver([]string{namesrv})),
		producer.WithSendMsgTimeout(timeout),
		producer.WithRetry(retries),
	}, more...)
	p, err := rocketmq.NewProducer(options...)
	must(err)
	must(p.Start())
	return p
}

func sent(i int, result *primitive.SendResult) map[string]interface{} {
	return map[string]interface{}{
		"index": i, "status": int(result.Status), "acked": result.Status == primitive.SendOK, "msgId": result.MsgID,
		"offsetMsgId": result.OffsetMsgID, "broker": result.MessageQueue.BrokerName,
		"queueId": result.MessageQueue.QueueId, "queueOffset": result.QueueOffset,
	}
}

func received(message *primitive.MessageExt) map[string]interface{} {
	return map[string]interface{}{
		"topic": message.Topic, "tags": message.GetTags(), "keys": message.GetKeys(), "body": string(message.Body),
		"flag": message.Flag, "msgId": message.MsgId, "queueId": message.Queue.QueueId,
		"queueOffset": message.QueueOffset, "reconsumeTimes": message.ReconsumeTimes, "bodyCRC": message.BodyCRC,
		"bornTimestamp": message.BornTimestamp, "storeTimestamp": message.StoreTimestamp,
		"bornHost": message.BornHost, "user": message.GetProperty("index"),
		"userText": message.GetProperty("\u5c5e\u6027"),
	}
}

func produce(namesrv, topic string, count int, out string) {
	p, writer := newProducer("interop-go-producer", namesrv, 10*time.Second, 0), open(out)
	for i := 0; i < count; i++ {
		result, err := p.SendSync(background, message(topic, i))
		must(err)
		writer.write(sent(i, result))
	}
	must(p.Shutdown())
}

func load(namesrv, topic string, seconds int, out string) {
	p, writer := newProducer("interop-go-load", namesrv, time.Second, 0), open(out)
	ending := newEnding(seconds, out)
	var next atomic.Int64
	var wait sync.WaitGroup
	for worker := 0; worker < 8; worker++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for !ending.isDue() {
				i := int(next.Add(1) - 1)
				result, err := p.SendSync(background, message(topic, i))
				if err != nil {
					time.Sleep(50 * time.Millisecond)
					continue
				}
				writer.write(sent(i, result))
			}
		}()
	}
	wait.Wait()
	must(p.Shutdown())
}

type listener = func(context.Context, ...*primitive.MessageExt) (consumer.ConsumeResult, error)

func newConsumer(namesrv, group, topic string, selector consumer.MessageSelector, listen listener, more ...consumer.Option) rocketmq.PushConsumer {
	options := append([]consumer.Option{
		consumer.WithGroupName(group),
		consumer.WithInstance(instance(group)),
		consumer.WithNsResolver(primitive.NewPassthroughResolver([]string{namesrv})),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
	}, more...)
	c, err := rocketmq.NewPushConsumer(options...)
	must(err)
	must(c.Subscribe(topic, selector, listen))
	must(c.Start())
	return c
}

func consume(namesrv, topic, group string, count, seconds int, out string) {
	writer, end := open(out), time.Now().Add(time.Duration(seconds)*time.Second)
	var mutex sync.Mutex
	seen := map[string]bool{}
	c := newConsumer(namesrv, group, topic, consumer.MessageSelector{},
		func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			for _, message := range messages {
				writer.write(received(message))
				mutex.Lock()
				seen[message.MsgId] = true
				mutex.Unlock()
			}
			return consumer.ConsumeSuccess, nil
		})
	for time.Now().Before(end) {
		mutex.Lock()
		enough := len(seen) >= count
		mutex.Unlock()
		if enough {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	must(c.Shutdown())
}
