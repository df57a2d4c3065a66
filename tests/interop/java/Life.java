import java.io.File;
import java.io.PrintWriter;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.text.SimpleDateFormat;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.Comparator;
import java.util.Date;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.IntPredicate;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.consumer.store.ReadOffsetType;
import org.apache.rocketmq.client.consumer.store.RemoteBrokerOffsetStore;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.exception.RequestTimeoutException;
import org.apache.rocketmq.client.impl.MQClientAPIImpl;
import org.apache.rocketmq.client.impl.consumer.DefaultMQPushConsumerImpl;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.RequestCallback;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageClientExt;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * What an application does with the client all its life, a part for each feature, all parts at once.
 *
 *   life NAMESRV COLD OUT   COLD is the name server of a broker that counts no message as being in memory; a line per part
 *
 * The brokers' delay levels are 1, 2, 1, 1, 1 and 3 seconds, and they filter by properties.
 */
class Life {
    private static final long PATIENCE_MS = 100_000;
    private static final int[] LEVEL_MS = {0, 1000, 2000, 1000, 1000, 1000, 3000};

    /** Says how many messages it has held against what was sent. */
    interface Part { int run() throws Exception; }

    private final String namesrv, cold;
    private final DefaultMQProducer producer;

    private Life(String namesrv, String cold) throws Exception {
        this.namesrv = namesrv;
        this.cold = cold;
        this.producer = producer("life", namesrv);
    }

    static void run(String[] args) throws Exception {
        // Where broadcasting consumers keep their places.
        System.setProperty("rocketmq.client.localOffsetStoreDir", new File(args[3]).getAbsoluteFile().getParent());
        Life life = new Life(args[1], args[2]);
        Map<String, Part> parts = new LinkedHashMap<>();
        parts.put("delay", life::delay);
        parts.put("retry", life::retry);
        parts.put("orderly", life::orderly);
        parts.put("broadcast", life::broadcast);
        parts.put("sql92", life::sql92);
        parts.put("tags", life::tags);
        parts.put("pull", life::pull);
        parts.put("lite-pull", life::litePull);
        parts.put("batch", life::batch);
        parts.put("async-and-oneway", life::asyncAndOneway);
        parts.put("request-reply", life::requestReply);
        parts.put("consume-from", life::consumeFrom);
        parts.put("rebalance", life::rebalance);
        parts.put("orderly-rebalance", life::orderlyRebalance);
        parts.put("big-bodies", life::bigBodies);
        parts.put("query", life::query);
        parts.put("reset", life::reset);
        parts.put("reset-online", life::resetOnline);
        parts.put("running-info", life::runningInfo);
        parts.put("trace", life::trace);
        List<Thread> threads = new ArrayList<>();
        try (PrintWriter writer = Interop.open(args[3])) {
            for (Map.Entry<String, Part> part : parts.entrySet()) {
                Thread thread = new Thread(() -> {
                    Map<String, Object> fields = new TreeMap<>();
                    long start = System.currentTimeMillis();
                    fields.put("part", part.getKey());
                    try {
                        fields.put("messages", part.getValue().run());
                    } catch (Throwable e) {
                        e.printStackTrace();
                        fields.put("error", e.toString());
                    }
                    fields.put("ms", System.currentTimeMillis() - start);
                    synchronized (writer) { writer.println(Interop.json(fields)); }
                }, part.getKey());
                threads.add(thread);
                thread.start();
            }
            for (Thread thread : threads) thread.join();
        }
    }

    // The parts.

    private int delay() throws Exception {
        String topic = topic("LifeDelay", 1);
        Map<Integer, Long> arrived = new ConcurrentHashMap<>();
        Seen seen = new Seen();
        DefaultMQPushConsumer consumer = push("life-delay", topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) arrived.put(index(message), System.currentTimeMillis());
            return seen.all(messages);
        });
        consumer.start();
        // The last is beyond the highest level.
        int[] levels = {1, 2, 6, 99};
        Map<Integer, SendResult> sent = new HashMap<>();
        Map<Integer, Long> sentAt = new HashMap<>();
        for (int i = 0; i < 40; i++) {
            Message message = Interop.message(topic, i);
            message.setDelayTimeLevel(levels[i % 4]);
            sentAt.put(i, System.currentTimeMillis());
            sent.put(i, ok(producer.send(message)));
        }
        seen.await(40);
        List<List<Integer>> order = Arrays.asList(new ArrayList<>(), new ArrayList<>(), new ArrayList<>());
        // The threads of the listener take them in any order: their queue has the one in which they were delivered.
        List<MessageExt> delivered = new ArrayList<>(seen.once());
        delivered.sort(Comparator.comparingLong(MessageExt::getQueueOffset));
        for (MessageExt message : delivered) {
            int i = index(message);
            same(topic, i, message);
            equal(sent.get(i).getMsgId(), message.getMsgId(), "the id of a delayed message");
            int level = Math.min(levels[i % 4], 6), wait = LEVEL_MS[level];
            equal(level, message.getDelayTimeLevel(), "the level");
            check(arrived.get(i) >= sentAt.get(i) + wait, "message " + i + " came early");
            // When it is stored is the broker's doing; when it arrives, that of a busy machine too.
            long late = message.getStoreTimestamp() - message.getBornTimestamp() - wait;
            check(late >= 0 && late < 5000, "message " + i + " was stored " + late + " ms after it was due");
            order.get(Math.min(i % 4, 2)).add(i);
        }
        // What is due at the same distance is delivered in the order in which it was sent.
        for (List<Integer> one : order) equal(sorted(one), one, "the order of a level");
        consumer.shutdown();
        return 40;
    }

    private int retry() throws Exception {
        String topic = topic("LifeRetry", 2), group = "life-retry";
        Seen seen = new Seen();
        DefaultMQPushConsumer consumer = push(group, topic, "*");
        consumer.setMaxReconsumeTimes(2);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            seen.all(messages);
            int kind = index(messages.get(0)) % 4, times = messages.get(0).getReconsumeTimes();
            // 0 succeeds, 1 fails once by an exception, 2 always fails, 3 is given up at once.
            if (kind == 1 && times == 0) throw new IllegalStateException("as it is to be");
            if (kind == 3) context.setDelayLevelWhenNextConsume(-1);
            return kind > 1 ? ConsumeConcurrentlyStatus.RECONSUME_LATER : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        Map<Integer, SendResult> sent = send(topic, 12);
        int[] deliveries = {1, 2, 3, 1};
        seen.await(3 * 7);
        Map<Integer, Integer> times = new HashMap<>();
        for (MessageExt message : seen.settled()) {
            int i = index(message);
            same(topic, i, message);
            equal(times.merge(i, 1, Integer::sum) - 1, message.getReconsumeTimes(), "how often message " + i + " was tried");
            equal(sent.get(i).getMsgId(), message.getMsgId(), "the id of a retried message");
            if (message.getReconsumeTimes() == 0) continue;
            equal(topic, message.getProperty(MessageConst.PROPERTY_RETRY_TOPIC), "where it came from");
            equal(sent.get(i).getOffsetMsgId(), message.getProperty("ORIGIN_MESSAGE_ID"), "its first id");
        }
        for (int i = 0; i < 12; i++) equal(deliveries[i % 4], times.get(i), "deliveries of message " + i);
        consumer.shutdown();
        List<MessageExt> dead = readAll("%DLQ%" + group, 6);
        for (MessageExt message : dead) {
            int i = index(message);
            same("%DLQ%" + group, i, message);
            check(i % 4 > 1, "message " + i + " is dead");
            equal(i % 4 == 2 ? 3 : 1, message.getReconsumeTimes(), "tries of dead message " + i);
            equal(topic, message.getProperty(MessageConst.PROPERTY_RETRY_TOPIC), "where it came from");
        }
        return seen.size() + dead.size();
    }

    private int orderly() throws Exception {
        String topic = topic("LifeOrderly", 4), group = "life-orderly";
        Map<Integer, List<String>> tries = new ConcurrentHashMap<>();
        Seen seen = new Seen();
        DefaultMQPushConsumer consumer = push(group, topic, "*");
        consumer.setMaxReconsumeTimes(2);
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            context.setSuspendCurrentQueueTimeMillis(200);
            MessageExt message = messages.get(0);
            int i = index(message);
            seen.all(messages);
            tries.computeIfAbsent(message.getQueueId(), queue -> Collections.synchronizedList(new ArrayList<>()))
                .add(i + "/" + message.getReconsumeTimes());
            // 8 is suspended once, 9 until it is given up, by an exception.
            if (i == 9) throw new IllegalStateException("as it is to be");
            return i == 8 && message.getReconsumeTimes() == 0
                ? ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT : ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        Map<Integer, SendResult> sent = new HashMap<>();
        for (int i = 0; i < 100; i++) {
            SendResult result = producer.send(Interop.message(topic, i), (queues, message, argument) -> {
                List<MessageQueue> ordered = new ArrayList<>(new TreeSet<>(queues));
                return ordered.get((Integer) argument % ordered.size());
            }, i % 4);
            equal(i % 4, result.getMessageQueue().getQueueId(), "the queue that was selected");
            sent.put(i, ok(result));
        }
        seen.await(100 + 1 + 2);
        for (MessageExt message : seen.settled()) {
            same(topic, index(message), message);
            equal(sent.get(index(message)).getQueueOffset(), message.getQueueOffset(), "the place in its queue");
        }
        for (int queue = 0; queue < 4; queue++) {
            List<String> expected = new ArrayList<>();
            for (int i = queue; i < 100; i += 4) {
                int count = i == 8 ? 2 : i == 9 ? 3 : 1;
                for (int time = 0; time < count; time++) expected.add(i + "/" + time);
            }
            equal(expected, tries.get(queue), "the order of queue " + queue);
        }
        consumer.shutdown();
        MessageExt dead = readAll("%DLQ%" + group, 1).get(0);
        same("%DLQ%" + group, 9, dead);
        equal(topic, dead.getProperty(MessageConst.PROPERTY_RETRY_TOPIC), "where it came from");
        return seen.size() + 1;
    }

    private int broadcast() throws Exception {
        String topic = topic("LifeBroadcast", 4), group = "life-broadcast";
        Seen[] seen = {new Seen(), new Seen()};
        DefaultMQPushConsumer[] consumers = new DefaultMQPushConsumer[2];
        for (int n = 0; n < 2; n++) consumers[n] = broadcasting(group, topic, n, seen[n]);
        send(topic, 40);
        for (Seen one : seen) {
            one.await(40);
            for (MessageExt message : one.once()) same(topic, index(message), message);
        }
        // A listener keeps its own place, on its own disk.
        consumed(topic, consumers[0]);
        consumers[0].shutdown();
        ok(producer.send(Interop.message(topic, 40)));
        Seen again = new Seen();
        DefaultMQPushConsumer restarted = broadcasting(group, topic, 0, again);
        again.await(1);
        seen[1].await(41);
        for (Seen one : Arrays.asList(again, seen[1])) one.once();
        same(topic, 40, again.settled().get(0));
        equal(1, again.size(), "messages after the restart of a broadcasting consumer");
        consumers[1].shutdown();
        restarted.shutdown();
        return 82;
    }

    private DefaultMQPushConsumer broadcasting(String group, String topic, int n, Seen seen) throws Exception {
        DefaultMQPushConsumer consumer = push(group, topic, "*");
        consumer.setInstanceName("life-broadcast-" + n);
        // Its type has moved to another package between the versions.
        for (Method method : DefaultMQPushConsumer.class.getMethods()) {
            if (!method.getName().equals("setMessageModel")) continue;
            for (Object model : method.getParameterTypes()[0].getEnumConstants()) {
                if (model.toString().equals("BROADCASTING")) method.invoke(consumer, model);
            }
        }
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> seen.all(messages));
        consumer.start();
        return consumer;
    }

    private int sql92() throws Exception {
        String topic = topic("LifeSql", 4);
        Map<String, IntPredicate> expressions = new LinkedHashMap<>();
        expressions.put("(price BETWEEN 10 AND 20 AND colour IN ('red', 'blue')) OR (TAGS = 'TagA' AND price IS NOT NULL)",
            i -> (i >= 10 && i <= 20 && i % 3 < 2) || (i % 5 == 0 && i != 30));
        expressions.put("NOT (price > 5) AND colour <> 'it''s'", i -> i <= 5 && i % 3 < 2);
        // It is unknown, not false, of what has no price.
        expressions.put("price < 0 OR price >= 58.5", i -> i == 59);
        expressions.put("price IS NULL", i -> i == 30);
        List<Seen> all = new ArrayList<>();
        List<DefaultMQPushConsumer> consumers = new ArrayList<>();
        for (String expression : expressions.keySet()) {
            DefaultMQPushConsumer consumer = push("life-sql-" + all.size(), null, null);
            consumer.subscribe(topic, MessageSelector.bySql(expression));
            Seen seen = new Seen();
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> seen.all(messages));
            consumer.start();
            consumers.add(consumer);
            all.add(seen);
        }
        String[] colours = {"red", "blue", "it's"};
        for (int i = 0; i < 60; i++) {
            Message message = Interop.message(topic, i);
            if (i != 30) message.putUserProperty("price", Integer.toString(i));
            message.putUserProperty("colour", colours[i % 3]);
            ok(producer.send(message));
        }
        int compared = 0, n = 0;
        for (IntPredicate expected : expressions.values()) {
            compared += holdAgainst(topic, 60, expected, all.get(n));
            consumers.get(n++).shutdown();
        }
        DefaultMQPushConsumer wrong = push("life-sql-wrong", null, null);
        wrong.subscribe(topic, MessageSelector.bySql("price >"));
        wrong.registerMessageListener((MessageListenerConcurrently) (messages, context) -> ConsumeConcurrentlyStatus.CONSUME_SUCCESS);
        MQClientException refused = refusal(MQClientException.class, () -> { wrong.start(); return null; });
        equal(23, refused.getResponseCode(), "the code for a filter that cannot be read");
        wrong.shutdown();
        return compared;
    }

    private int tags() throws Exception {
        String topic = topic("LifeTags", 4);
        Map<String, IntPredicate> expressions = new LinkedHashMap<>();
        expressions.put("TagA || TagC", i -> i < 50 && i % 5 % 2 == 0 && i % 5 < 4);
        // The hash of this one is that of another.
        expressions.put("Aa", i -> i >= 50 && i % 2 == 0);
        expressions.put("*", i -> true);
        List<Seen> all = new ArrayList<>();
        List<DefaultMQPushConsumer> consumers = new ArrayList<>();
        for (String expression : expressions.keySet()) {
            Seen seen = new Seen();
            DefaultMQPushConsumer consumer = push("life-tags-" + all.size(), topic, expression);
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> seen.all(messages));
            consumer.start();
            consumers.add(consumer);
            all.add(seen);
        }
        for (int i = 0; i < 60; i++) {
            Message message = Interop.message(topic, i);
            if (i >= 50) message.setTags(i % 2 == 0 ? "Aa" : "BB");
            ok(producer.send(message));
        }
        int compared = 0, n = 0;
        for (IntPredicate expected : expressions.values()) {
            compared += holdAgainst(topic, 60, expected, all.get(n));
            consumers.get(n++).shutdown();
        }
        return compared;
    }

    /** Exactly the messages that are expected have come, each once and whole. */
    private int holdAgainst(String topic, int count, IntPredicate expected, Seen seen) throws Exception {
        Set<Integer> wanted = new TreeSet<>();
        for (int i = 0; i < count; i++) if (expected.test(i)) wanted.add(i);
        seen.await(wanted.size());
        Set<Integer> got = new TreeSet<>();
        for (MessageExt message : seen.once()) {
            int i = index(message);
            got.add(i);
            if (!topic.equals("LifeTags") || i < 50) same(topic, i, message);
        }
        equal(wanted, got, "what passes the filter");
        return got.size();
    }

    private int pull() throws Exception {
        String topic = topic("LifePull", 2);
        DefaultMQPullConsumer consumer = puller("life-pull");
        TreeSet<MessageQueue> queues = new TreeSet<>(consumer.fetchSubscribeMessageQueues(topic));
        equal(2, queues.size(), "queues");
        MessageQueue queue = queues.first();
        for (MessageQueue empty : queues) {
            equal(0L, consumer.maxOffset(empty), "the end of an empty queue");
            equal(PullStatus.NO_NEW_MSG, consumer.pull(empty, "*", 0, 8).getPullStatus(), "a pull from an empty queue");
            equal(-1L, consumer.fetchConsumeOffset(empty, true) > 0 ? 1L : -1L, "nothing is committed");
        }
        long middle = 0;
        for (int i = 0; i < 60; i++) {
            if (i == 30) {
                Thread.sleep(20);
                middle = System.currentTimeMillis();
                Thread.sleep(20);
            }
            equal((long) i, ok(producer.send(Interop.message(topic, i), queue)).getQueueOffset(), "the offset of message " + i);
        }
        until("the queue's end", () -> consumer.maxOffset(queue) == 60 ? true : null);
        equal(0L, consumer.minOffset(queue), "the queue's beginning");
        equal(30L, consumer.searchOffset(queue, middle), "the first message after the middle");
        equal(60L, consumer.searchOffset(queue, System.currentTimeMillis() + 60_000), "after all");
        equal(0L, consumer.searchOffset(queue, 1), "before all");
        List<Integer> got = new ArrayList<>();
        for (long at = 0; at < 60;) {
            PullResult result = consumer.pull(queue, "TagB || TagD", at, 8);
            check(result.getNextBeginOffset() > at, "a pull at " + at + " goes on at " + result.getNextBeginOffset());
            equal(0L, result.getMinOffset(), "the beginning told by a pull");
            equal(60L, result.getMaxOffset(), "the end told by a pull");
            at = result.getNextBeginOffset();
            if (result.getPullStatus() != PullStatus.FOUND) continue;
            for (MessageExt message : result.getMsgFoundList()) {
                same(topic, index(message), message);
                equal((long) index(message), message.getQueueOffset(), "its offset");
                got.add(index(message));
            }
        }
        List<Integer> wanted = new ArrayList<>();
        for (int i = 0; i < 60; i++) if (i % 5 == 1 || i % 5 == 3) wanted.add(i);
        equal(wanted, got, "what was pulled by tags");
        PullResult beyond = consumer.pull(queue, "*", 1000, 8);
        equal(PullStatus.OFFSET_ILLEGAL, beyond.getPullStatus(), "a pull beyond the end");
        equal(60L, beyond.getNextBeginOffset(), "where a pull beyond the end is sent");
        equal(PullStatus.NO_NEW_MSG, consumer.pull(queue, "*", 60, 8).getPullStatus(), "a pull at the end");
        consumer.updateConsumeOffset(queue, 17);
        consumer.getDefaultMQPullConsumerImpl().getOffsetStore().persistAll(Collections.singleton(queue));
        until("the commit", () -> consumer.fetchConsumeOffset(queue, true) == 17 ? true : null);
        // A pull that waits is woken by the message, before its 20 seconds are up.
        AtomicReference<PullResult> woken = new AtomicReference<>();
        Thread waiter = new Thread(() -> {
            try { woken.set(consumer.pullBlockIfNotFound(queue, "*", 60, 8)); } catch (Exception e) { e.printStackTrace(); }
        });
        waiter.start();
        Thread.sleep(500);
        check(woken.get() == null, "a pull at the end waits");
        ok(producer.send(Interop.message(topic, 60), queue));
        waiter.join(15_000);
        check(woken.get() != null, "a waiting pull was not woken");
        same(topic, 60, woken.get().getMsgFoundList().get(0));
        consumer.shutdown();
        return got.size() + 1;
    }

    private int litePull() throws Exception {
        String topic = topic("LifeLite", 2), group = "life-lite";
        Map<Integer, SendResult> sent = send(topic, 60);
        Map<MessageQueue, Long> ends = new HashMap<>();
        for (SendResult result : sent.values()) ends.merge(result.getMessageQueue(), result.getQueueOffset() + 1, Math::max);
        equal(2, ends.size(), "queues");
        DefaultLitePullConsumer consumer = lite(group);
        consumer.subscribe(topic, "*");
        consumer.start();
        Seen seen = new Seen();
        poll(consumer, seen, 60);
        for (MessageExt message : seen.once()) {
            same(topic, index(message), message);
            equal(sent.get(index(message)).getMsgId(), message.getMsgId(), "its id");
        }
        for (Map.Entry<MessageQueue, Long> end : ends.entrySet()) {
            MessageQueue queue = end.getKey();
            consumer.seekToBegin(queue);
            equal(0L, firstOf(consumer, queue), "the place after seekToBegin");
            consumer.seek(queue, 7);
            equal(7L, firstOf(consumer, queue), "the place after seek");
            consumer.seekToEnd(queue);
        }
        check(consumer.poll(1000).isEmpty(), "nothing comes at the end");
        MQClientException refused = refusal(MQClientException.class, () -> { consumer.seek(ends.keySet().iterator().next(), 1000); return null; });
        check(refused.getMessage().contains("illegal"), refused.toString());
        consumer.commitSync();
        DefaultMQPullConsumer other = puller(group + "-other");
        consumer.shutdown();
        // What was committed is where another of the group begins; the commit is one-way, and may come after its question.
        var commits = new RemoteBrokerOffsetStore(other.getDefaultMQPullConsumerImpl().getRebalanceImpl().getmQClientFactory(), group);
        for (MessageQueue queue : ends.keySet()) {
            long end = ends.get(queue);
            until("the commit in " + queue, () -> commits.readOffset(queue, ReadOffsetType.READ_FROM_STORE) == end ? true : null);
        }
        DefaultLitePullConsumer next = lite(group);
        next.subscribe(topic, "TagA || TagB");
        next.start();
        for (MessageQueue queue : ends.keySet()) {
            until("the commit in " + queue, () -> ends.get(queue).equals(next.committed(queue)) ? true : null);
        }
        for (int i = 60; i < 70; i++) ok(producer.send(Interop.message(topic, i)));
        Seen rest = new Seen();
        poll(next, rest, 4);
        Set<Integer> got = new TreeSet<>();
        for (MessageExt message : rest.once()) got.add(index(message));
        equal(new TreeSet<>(Arrays.asList(60, 61, 65, 66)), got, "what came after the commit, by tags");
        next.shutdown();
        // By hand: two queues are assigned, one of them rests.
        DefaultLitePullConsumer manual = lite(group + "-manual");
        manual.start();
        List<MessageQueue> queues = new ArrayList<>(new TreeSet<>(manual.fetchMessageQueues(topic)));
        manual.assign(queues);
        manual.pause(queues.subList(0, 1));
        for (MessageQueue queue : queues) manual.seekToBegin(queue);
        Seen second = new Seen();
        int half = (int) (long) other.maxOffset(queues.get(1));
        poll(manual, second, half);
        for (MessageExt message : second.once()) equal(1, message.getQueueId(), "a resting queue gives nothing");
        equal(0L, manual.offsetForTimestamp(queues.get(1), 1L), "the first message of all time");
        manual.resume(queues.subList(0, 1));
        poll(manual, second, 70);
        manual.shutdown();
        other.shutdown();
        return 60 + 4 + 70;
    }

    private static void poll(DefaultLitePullConsumer consumer, Seen seen, int count) throws Exception {
        long end = System.currentTimeMillis() + PATIENCE_MS;
        while (seen.size() < count && System.currentTimeMillis() < end) seen.all(consumer.poll(500));
        equal(count, seen.size(), "messages that were polled");
    }

    private static long firstOf(DefaultLitePullConsumer consumer, MessageQueue queue) throws Exception {
        return until("a message of " + queue, () -> {
            for (MessageExt message : consumer.poll(500)) {
                if (message.getQueueId() == queue.getQueueId()) return message.getQueueOffset();
            }
            return null;
        });
    }

    private int batch() throws Exception {
        String topic = topic("LifeBatch", 2);
        Seen seen = new Seen();
        DefaultMQPushConsumer consumer = push("life-batch", topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> seen.all(messages));
        consumer.start();
        Map<String, Long> places = new HashMap<>();
        for (int n = 0; n < 4; n++) {
            List<Message> messages = new ArrayList<>();
            for (int i = 25 * n; i < 25 * n + 25; i++) messages.add(Interop.message(topic, i));
            SendResult result = ok(producer.send(messages));
            String[] ids = result.getMsgId().split(",");
            equal(25, ids.length, "ids of a batch");
            equal(25, result.getOffsetMsgId().split(",").length, "offset ids of a batch");
            for (int m = 0; m < 25; m++) places.put(ids[m], result.getQueueOffset() + m);
        }
        seen.await(100);
        Set<Integer> got = new HashSet<>();
        for (MessageExt message : seen.once()) {
            same(topic, index(message), message);
            equal(places.get(message.getMsgId()), message.getQueueOffset(), "the place of a member");
            got.add(index(message));
        }
        equal(100, got.size(), "different members");
        consumer.shutdown();
        return 100;
    }

    private int asyncAndOneway() throws Exception {
        String topic = topic("LifeAsync", 4);
        Seen seen = new Seen();
        DefaultMQPushConsumer consumer = push("life-async", topic, "*");
        consumer.setConsumeMessageBatchMaxSize(8);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> seen.all(messages));
        consumer.start();
        Map<Integer, SendResult> sent = new ConcurrentHashMap<>();
        List<Throwable> failed = Collections.synchronizedList(new ArrayList<>());
        CountDownLatch left = new CountDownLatch(200);
        for (int i = 0; i < 200; i++) {
            int index = i;
            producer.send(Interop.message(topic, i), new SendCallback() {
                @Override public void onSuccess(SendResult result) {
                    sent.put(index, result);
                    left.countDown();
                }
                @Override public void onException(Throwable e) {
                    failed.add(e);
                    left.countDown();
                }
            });
        }
        for (int i = 200; i < 300; i++) producer.sendOneway(Interop.message(topic, i));
        check(left.await(PATIENCE_MS, TimeUnit.MILLISECONDS), "all are called back");
        check(failed.isEmpty(), "failed: " + failed);
        seen.await(300);
        for (MessageExt message : seen.once()) {
            int i = index(message);
            same(topic, i, message);
            if (i >= 200) continue;
            equal(sent.get(i).getMsgId(), message.getMsgId(), "its id");
            equal(sent.get(i).getQueueOffset(), message.getQueueOffset(), "its offset");
            equal(sent.get(i).getMessageQueue().getQueueId(), message.getQueueId(), "its queue");
        }
        consumer.shutdown();
        return 300;
    }

    private int requestReply() throws Exception {
        String topic = topic("LifeRequest", 2);
        DefaultMQProducer replier = producer("life-replier", namesrv);
        DefaultMQPushConsumer consumer = push("life-replier", topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                if (index(message) >= 100) continue;
                try {
                    String body = "reply to " + new String(message.getBody(), StandardCharsets.UTF_8);
                    Message reply = MessageUtil.createReplyMessage(message, body.getBytes(StandardCharsets.UTF_8));
                    reply.putUserProperty("index", Integer.toString(index(message)));
                    ok(replier.send(reply, 5000));
                } catch (Exception e) {
                    e.printStackTrace();
                    return ConsumeConcurrentlyStatus.RECONSUME_LATER;
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        DefaultMQProducer asker = producer("life-asker", namesrv);
        for (int i = 0; i < 10; i++) replied(i, asker.request(Interop.message(topic, i), 15000));
        CountDownLatch left = new CountDownLatch(20);
        List<Throwable> failed = Collections.synchronizedList(new ArrayList<>());
        for (int i = 10; i < 30; i++) {
            int index = i;
            asker.request(Interop.message(topic, i), new RequestCallback() {
                @Override public void onSuccess(Message reply) {
                    // This client calls back when the request is sent, too.
                    if (reply == null) return;
                    try { replied(index, reply); } catch (Throwable e) { failed.add(e); }
                    left.countDown();
                }
                @Override public void onException(Throwable e) {
                    failed.add(e);
                    left.countDown();
                }
            }, 15000);
        }
        check(left.await(PATIENCE_MS, TimeUnit.MILLISECONDS), "all requests are called back");
        check(failed.isEmpty(), "failed: " + failed);
        // Nobody replies to this one.
        refusal(RequestTimeoutException.class, () -> asker.request(Interop.message(topic, 100), 1500));
        consumer.shutdown();
        // A reply to one that is gone is refused, and says so.
        MessageExt orphan = new MessageExt();
        orphan.setTopic(topic);
        for (String[] property : new String[][] {{"CLUSTER", "DefaultCluster"}, {"CORRELATION_ID", "c"}, {"REPLY_TO_CLIENT", "nobody"}, {"TTL", "1000"}}) {
            MessageAccessor.putProperty(orphan, property[0], property[1]);
        }
        replier.setRetryTimesWhenSendFailed(0);
        Message lost = MessageUtil.createReplyMessage(orphan, "lost".getBytes(StandardCharsets.UTF_8));
        Throwable refused = refusal(Exception.class, () -> replier.send(lost));
        while (refused.getCause() != null) refused = refused.getCause();
        check(refused.toString().contains("channel of <nobody> not found"), refused.toString());
        asker.shutdown();
        replier.shutdown();
        return 30;
    }

    private static void replied(int index, Message reply) {
        Message asked = Interop.message("LifeRequest", index);
        String expected = "reply to " + new String(asked.getBody(), StandardCharsets.UTF_8);
        equal(expected, new String(reply.getBody(), StandardCharsets.UTF_8), "the reply");
        equal(Integer.toString(index), reply.getUserProperty("index"), "the reply's property");
        check(reply.getProperty("CORRELATION_ID") != null, "it names its request");
    }

    private int consumeFrom() throws Exception {
        // A broker that has the beginning in memory lets every new group begin there.
        DefaultMQProducer coldProducer = producer("life-from", cold);
        String young = topic("LifeYoung", 2), old = topic(coldProducer, "LifeOld", 2);
        send(young, 10);
        for (int i = 0; i < 20; i++) ok(coldProducer.send(Interop.message(old, i)));
        // Such a time has a resolution of a second.
        long second = (System.currentTimeMillis() / 1000 + 2) * 1000;
        while (System.currentTimeMillis() < second + 50) Thread.sleep(10);
        for (int i = 20; i < 40; i++) ok(coldProducer.send(Interop.message(old, i)));
        // A queue's end is told of what is dispatched, a moment after it is acknowledged.
        until("the ends of " + old, () -> {
            long messages = 0;
            for (MessageQueue queue : coldProducer.fetchPublishMessageQueues(old)) messages += coldProducer.getDefaultMQProducerImpl().maxOffset(queue);
            return messages == 40 ? true : null;
        });
        Seen first = new Seen(), last = new Seen(), time = new Seen(), youngLast = new Seen();
        List<DefaultMQPushConsumer> consumers = Arrays.asList(
            from(cold, "life-from-first", old, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET, first),
            from(cold, "life-from-last", old, ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET, last),
            from(cold, "life-from-time", old, ConsumeFromWhere.CONSUME_FROM_TIMESTAMP, time),
            from(namesrv, "life-from-young", young, ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET, youngLast));
        consumers.get(2).setConsumeTimestamp(new SimpleDateFormat("yyyyMMddHHmmss").format(new Date(second)));
        for (DefaultMQPushConsumer consumer : consumers) consumer.start();
        for (DefaultMQPushConsumer consumer : consumers) assigned(consumer, 2);
        for (int i = 40; i < 50; i++) ok(coldProducer.send(Interop.message(old, i)));
        int compared = holdAgainst(old, 50, i -> true, first);
        compared += holdAgainst(old, 50, i -> i >= 40, last);
        compared += holdAgainst(old, 50, i -> i >= 20, time);
        compared += holdAgainst(young, 10, i -> true, youngLast);
        for (DefaultMQPushConsumer consumer : consumers) consumer.shutdown();
        coldProducer.shutdown();
        return compared;
    }

    private DefaultMQPushConsumer from(String namesrv, String group, String topic, ConsumeFromWhere where, Seen seen) throws Exception {
        DefaultMQPushConsumer consumer = push(group, topic, "*");
        consumer.setNamesrvAddr(namesrv);
        consumer.setConsumeFromWhere(where);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> seen.all(messages));
        return consumer;
    }

    private int rebalance() throws Exception {
        String topic = topic("LifeRebalance", 4);
        Seen[] seen = {new Seen(), new Seen(), new Seen()};
        List<DefaultMQPushConsumer> consumers = new ArrayList<>();
        for (Seen one : seen) {
            DefaultMQPushConsumer consumer = push("life-rebalance", topic, "*");
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> one.all(messages));
            consumers.add(consumer);
        }
        DefaultMQPushConsumer a = consumers.get(0), b = consumers.get(1), c = consumers.get(2);
        a.start();
        assigned(a, 4);
        // Told by the broker, the first gives half of its queues to the second.
        b.start();
        assigned(a, 2);
        assigned(b, 2);
        sendRange(topic, 0, 100);
        awaitAll(100, seen);
        check(seen[0].size() > 0 && seen[1].size() > 0, "both have got some: " + seen[0].size() + ", " + seen[1].size());
        committed(topic, a, b);
        b.shutdown();
        assigned(a, 4);
        int before = seen[0].size();
        sendRange(topic, 100, 200);
        awaitAll(200, seen);
        equal(100, seen[0].size() - before, "what came to the one that stayed");
        committed(topic, a);
        c.start();
        assigned(a, 2);
        assigned(c, 2);
        sendRange(topic, 200, 300);
        awaitAll(300, seen);
        Set<String> ids = new HashSet<>();
        for (Seen one : seen) {
            for (MessageExt message : one.settled()) {
                same(topic, index(message), message);
                check(ids.add(message.getMsgId()), "message " + index(message) + " came twice");
            }
        }
        equal(300, ids.size(), "messages of the group");
        a.shutdown();
        c.shutdown();
        return 300;
    }

    private int orderlyRebalance() throws Exception {
        String topic = topic("LifeOrderlyRebalance", 4);
        Map<Integer, List<Integer>> done = new ConcurrentHashMap<>();
        Map<Integer, AtomicInteger> inside = new ConcurrentHashMap<>();
        List<String> broken = Collections.synchronizedList(new ArrayList<>());
        Seen seen = new Seen();
        List<DefaultMQPushConsumer> consumers = new ArrayList<>();
        for (int n = 0; n < 2; n++) {
            DefaultMQPushConsumer consumer = push("life-orderly-rebalance", topic, "*");
            consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
                MessageExt message = messages.get(0);
                AtomicInteger one = inside.computeIfAbsent(message.getQueueId(), queue -> new AtomicInteger());
                if (one.incrementAndGet() > 1) broken.add("queue " + message.getQueueId() + " is consumed by two");
                done.computeIfAbsent(message.getQueueId(), queue -> Collections.synchronizedList(new ArrayList<>())).add(index(message));
                seen.all(messages);
                try { Thread.sleep(5); } catch (InterruptedException e) { Thread.currentThread().interrupt(); }
                one.decrementAndGet();
                return ConsumeOrderlyStatus.SUCCESS;
            });
            consumers.add(consumer);
        }
        consumers.get(0).start();
        assigned(consumers.get(0), 4);
        Thread sender = new Thread(() -> {
            try {
                for (int i = 0; i < 400; i++) {
                    ok(producer.send(Interop.message(topic, i), (queues, message, argument) ->
                        new ArrayList<>(new TreeSet<>(queues)).get((Integer) argument), i % 4));
                    Thread.sleep(10);
                }
            } catch (Exception e) {
                broken.add(e.toString());
            }
        });
        sender.start();
        // Queues change hands under load; each has one owner at a time.
        Thread.sleep(1000);
        consumers.get(1).start();
        assigned(consumers.get(0), 2);
        assigned(consumers.get(1), 2);
        sender.join();
        seen.awaitIndexes(400);
        check(broken.isEmpty(), broken.toString());
        for (MessageExt message : seen.settled()) same(topic, index(message), message);
        for (int queue = 0; queue < 4; queue++) {
            // Again from the place that the one before has saved, as at a change of hands; never past what was not done.
            int reached = queue - 4;
            for (int i : new ArrayList<>(done.get(queue))) {
                check(i <= reached + 4, "queue " + queue + ": " + i + " after " + reached);
                reached = Math.max(reached, i);
            }
            equal(396 + queue, reached, "the last of queue " + queue);
        }
        for (DefaultMQPushConsumer consumer : consumers) consumer.shutdown();
        return seen.size();
    }

    private int bigBodies() throws Exception {
        String topic = topic("LifeBig", 2);
        Map<Integer, Message> sent = new HashMap<>();
        DefaultMQProducer big = producer("life-big", namesrv);
        big.setMaxMessageSize(16 * 1024 * 1024);
        Random random = new Random(1);
        // What can be compressed is, from 4 KiB on; the last has exactly the length that a broker takes.
        int[] lengths = {4095, 4096, 4097, 100_000, 3 << 20, 1 << 20, 4 << 20};
        for (int i = 0; i < lengths.length; i++) {
            byte[] body = new byte[lengths[i]];
            if (i < 5) Arrays.fill(body, (byte) ('a' + i)); else random.nextBytes(body);
            if (i == 6) big.setCompressMsgBodyOverHowmuch(16 * 1024 * 1024);
            Message message = Interop.message(topic, i);
            message.setBody(body);
            sent.put(i, message);
            ok(big.send(message, 10_000));
        }
        Seen seen = new Seen();
        DefaultMQPushConsumer consumer = push("life-big", topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> seen.all(messages));
        consumer.start();
        seen.await(lengths.length);
        for (MessageExt message : seen.once()) {
            Message one = sent.get(index(message));
            check(Arrays.equals(one.getBody(), message.getBody()), "the body of big message " + index(message));
            equal(one.getKeys(), message.getKeys(), "its keys");
            boolean compressed = index(message) > 0 && index(message) < 5;
            equal(compressed, message.getStoreSize() < Math.min(one.getBody().length, 4096), "whether message " + index(message) + " was compressed");
        }
        consumer.shutdown();
        Message over = Interop.message(topic, 7);
        over.setBody(new byte[(4 << 20) + 1]);
        MQBrokerException refused = refusal(MQBrokerException.class, () -> big.send(over, 10_000));
        equal(13, refused.getResponseCode(), "the code for a body that is too long");
        Message many = Interop.message(topic, 8);
        char[] long_ = new char[33_000];
        Arrays.fill(long_, 'x');
        many.putUserProperty("long", new String(long_));
        refused = refusal(MQBrokerException.class, () -> big.send(many, 10_000));
        equal(13, refused.getResponseCode(), "the code for properties that are too long");
        big.shutdown();
        return lengths.length;
    }

    private int query() throws Exception {
        String topic = topic("LifeQuery", 4);
        long begin = System.currentTimeMillis();
        Map<Integer, SendResult> sent = new HashMap<>();
        for (int i = 0; i < 40; i++) {
            Message message = Interop.message(topic, i);
            message.setKeys(Arrays.asList("all", "key-" + i));
            sent.put(i, ok(producer.send(message)));
        }
        DefaultMQPullConsumer reader = puller("life-query");
        long end = System.currentTimeMillis() + 1000;
        for (int i = 0; i < 40; i++) {
            String key = "key-" + i, id = sent.get(i).getMsgId(), place = sent.get(i).getOffsetMsgId();
            List<MessageExt> found = until(key, () -> {
                try {
                    return reader.queryMessage(topic, key, 32, begin - 1000, end).getMessageList();
                } catch (MQClientException e) {
                    return null; // the index is behind
                }
            });
            equal(1, found.size(), "messages with " + key);
            MessageExt byUnique = reader.viewMessage(topic, id), byPlace = reader.viewMessage(topic, place);
            for (MessageExt one : Arrays.asList(found.get(0), byUnique, byPlace)) {
                equal(i, index(one), "what was found");
                equal(id, one.getMsgId(), "its id");
                equal(place, ((MessageClientExt) one).getOffsetMsgId(), "its place");
                equal(new String(Interop.message(topic, i).getBody(), StandardCharsets.UTF_8), new String(one.getBody(), StandardCharsets.UTF_8), "its body");
            }
        }
        // At most so many; and only those of that time.
        equal(32, reader.queryMessage(topic, "all", 32, begin - 1000, end).getMessageList().size(), "a query with a limit");
        MQClientException nothing = refusal(MQClientException.class, () -> reader.queryMessage(topic, "all", 32, 0, begin - 60_000));
        equal(208, nothing.getResponseCode(), "the code for nothing found");
        nothing = refusal(MQClientException.class, () -> reader.queryMessage(topic, "no such key", 32, 0, end));
        equal(208, nothing.getResponseCode(), "the code for nothing found");
        reader.shutdown();
        return 120;
    }

    /** Offsets are set back while nobody of the group is there. */
    private int reset() throws Exception {
        String topic = topic("LifeReset", 2), group = "life-reset";
        send(topic, 40);
        Seen seen = new Seen();
        DefaultMQPushConsumer consumer = from(namesrv, group, topic, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET, seen);
        consumer.start();
        seen.await(40);
        seen.once();
        consumed(topic, consumer);
        consumer.shutdown();
        DefaultMQPullConsumer offsets = puller(group);
        for (MessageQueue queue : offsets.fetchSubscribeMessageQueues(topic)) {
            equal(offsets.maxOffset(queue), until("the commit", () -> {
                long committed = offsets.fetchConsumeOffset(queue, true);
                return committed >= offsets.maxOffset(queue) ? committed : null;
            }), "what the consumer committed at its end");
            offsets.updateConsumeOffset(queue, 15);
            offsets.getDefaultMQPullConsumerImpl().getOffsetStore().persistAll(Collections.singleton(queue));
            until("the commit", () -> offsets.fetchConsumeOffset(queue, true) == 15 ? true : null);
        }
        offsets.shutdown();
        Seen again = new Seen();
        DefaultMQPushConsumer second = from(namesrv, group, topic, ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET, again);
        second.start();
        again.await(10);
        for (MessageExt message : again.once()) {
            check(message.getQueueOffset() >= 15, "offset " + message.getQueueOffset() + " after a reset to 15");
            same(topic, index(message), message);
        }
        equal(10, again.size(), "messages after the reset");
        second.shutdown();
        return 50;
    }

    /** Offsets are set back through the broker while a consumer runs. */
    private int resetOnline() throws Exception {
        String topic = topic("LifeResetOnline", 2), group = "life-reset-online";
        Map<Integer, SendResult> sent = sendRange(topic, 0, 20);
        Thread.sleep(20);
        long middle = System.currentTimeMillis();
        Thread.sleep(20);
        sent.putAll(sendRange(topic, 20, 40));
        Seen seen = new Seen();
        DefaultMQPushConsumer consumer = from(namesrv, group, topic, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET, seen);
        consumer.setPersistConsumerOffsetInterval(500);
        consumer.start();
        seen.await(40);
        String broker = broker(seen.once().get(0));
        DefaultMQPullConsumer offsets = puller(group + "-other");
        MQClientAPIImpl api = consumer.getDefaultMQPushConsumerImpl().getmQClientFactory().getMQClientAPIImpl();
        // The first commit comes after ten seconds, and without one there is nothing to be set back.
        committed(topic, consumer);
        Map<MessageQueue, Long> places = api.invokeBrokerToResetOffset(broker, topic, group, middle, true, 5000);
        equal(2, places.size(), "queues whose offsets are set back");
        for (Map.Entry<MessageQueue, Long> place : places.entrySet()) {
            equal(offsets.searchOffset(place.getKey(), middle), place.getValue(), "the new place in " + place.getKey());
        }
        seen.await(60);
        Map<Integer, Integer> times = new HashMap<>();
        for (MessageExt message : seen.settled()) {
            same(topic, index(message), message);
            equal(sent.get(index(message)).getMsgId(), message.getMsgId(), "its id");
            times.merge(index(message), 1, Integer::sum);
        }
        for (int i = 0; i < 40; i++) equal(i < 20 ? 1 : 2, times.get(i), "how often message " + i + " came");
        consumer.shutdown();
        offsets.shutdown();
        return 60;
    }

    /** What a consumer tells of itself, and one message that it is given by hand. */
    private int runningInfo() throws Exception {
        String topic = topic("LifeRunning", 2), group = "life-running";
        Seen seen = new Seen();
        DefaultMQPushConsumer consumer = from(namesrv, group, topic, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET, seen);
        consumer.start();
        SendResult result = ok(producer.send(Interop.message(topic, 0)));
        seen.await(1);
        assigned(consumer, 2);
        String broker = broker(seen.once().get(0));
        MQClientAPIImpl api = consumer.getDefaultMQPushConsumerImpl().getmQClientFactory().getMQClientAPIImpl();
        String client = consumer.getDefaultMQPushConsumerImpl().getmQClientFactory().getClientId();
        equal(Collections.singletonList(client), api.getConsumerIdListByGroup(broker, group, 5000), "who is in the group");
        var info = api.getConsumerRunningInfo(broker, group, client, true, 5000);
        equal(2L, info.getMqTable().keySet().stream().filter(queue -> queue.getTopic().equals(topic)).count(), "its queues");
        check(info.getSubscriptionSet().stream().anyMatch(one -> one.getTopic().equals(topic)), "its subscription");
        check(info.getJstack().contains("ConsumeMessageThread"), "its threads");
        for (Method method : MQClientAPIImpl.class.getMethods()) {
            if (!method.getName().equals("consumeMessageDirectly")) continue;
            // The newer one takes the topic too.
            Object given = method.getParameterCount() == 5
                ? method.invoke(api, broker, group, client, result.getOffsetMsgId(), 5000L)
                : method.invoke(api, broker, group, client, topic, result.getOffsetMsgId(), 5000L);
            check(given.toString().contains("CR_SUCCESS"), given.toString());
        }
        seen.await(2);
        for (MessageExt message : seen.settled()) same(topic, 0, message);
        equal(2, seen.size(), "deliveries");
        MQClientException nobody = refusal(MQClientException.class, () -> api.getConsumerRunningInfo(broker, group, "nobody", false, 5000));
        equal(1, nobody.getResponseCode(), "the code for a client that is not there");
        consumer.shutdown();
        return 2;
    }

    private int trace() throws Exception {
        String topic = topic("LifeTraced", 2), traces = topic("LifeTraces", 1);
        DefaultMQProducer traced = new DefaultMQProducer("life-traced", null, true, traces);
        traced.setNamesrvAddr(namesrv);
        traced.setInstanceName("life-traced-" + System.nanoTime());
        traced.start();
        Set<String> ids = new HashSet<>();
        for (int i = 0; i < 10; i++) ids.add(ok(traced.send(Interop.message(topic, i))).getMsgId());
        DefaultLitePullConsumer consumer = lite("life-traces");
        consumer.subscribe(traces, "*");
        consumer.start();
        StringBuilder told = new StringBuilder();
        until("the traces of all", () -> {
            for (MessageExt message : consumer.poll(500)) {
                String body = new String(message.getBody(), StandardCharsets.UTF_8);
                check(body.startsWith("Pub"), body);
                for (String id : ids) check(!body.contains(id) || message.getKeys().contains(id), "the keys of a trace name " + id);
                told.append(body);
            }
            return ids.stream().allMatch(id -> told.indexOf(id) >= 0) ? true : null;
        });
        consumer.shutdown();
        traced.shutdown();
        return 10;
    }

    private static String broker(MessageExt message) {
        return "127.0.0.1:" + ((InetSocketAddress) message.getStoreHost()).getPort();
    }

    // What the parts share.

    /** What a consumer was given. */
    static class Seen {
        private final List<MessageExt> all = new ArrayList<>();

        synchronized ConsumeConcurrentlyStatus all(Collection<MessageExt> messages) {
            all.addAll(messages);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        }

        synchronized int size() { return all.size(); }

        void await(int count) throws Exception {
            until(() -> "message " + count + " of " + size(), () -> size() >= count ? true : null);
        }

        void awaitIndexes(int count) throws Exception {
            until(() -> count + " different messages", () -> {
                Set<Integer> indexes = new HashSet<>();
                synchronized (this) { for (MessageExt message : all) indexes.add(index(message)); }
                return indexes.size() >= count ? true : null;
            });
        }

        /** All of them, a while after the last that was waited for. */
        List<MessageExt> settled() throws Exception {
            Thread.sleep(300);
            synchronized (this) { return new ArrayList<>(all); }
        }

        /** As {@link #settled}, each once. */
        List<MessageExt> once() throws Exception {
            Set<String> ids = new HashSet<>();
            List<MessageExt> messages = settled();
            for (MessageExt message : messages) check(ids.add(message.getMsgId()), "message " + index(message) + " came twice");
            return messages;
        }
    }

    private static void awaitAll(int count, Seen[] seen) throws Exception {
        until(() -> "message " + count + " of the group", () -> Arrays.stream(seen).mapToInt(Seen::size).sum() >= count ? true : null);
    }

    private static void same(String topic, int i, MessageExt got) {
        Message sent = Interop.message(topic, i);
        equal(topic, got.getTopic(), "the topic of message " + i);
        equal(new String(sent.getBody(), StandardCharsets.UTF_8), new String(got.getBody(), StandardCharsets.UTF_8), "the body of message " + i);
        equal(sent.getTags(), got.getTags(), "the tag of message " + i);
        if (!topic.equals("LifeQuery")) equal(sent.getKeys(), got.getKeys(), "the keys of message " + i);
        equal(sent.getFlag(), got.getFlag(), "the flag of message " + i);
        for (String name : new String[] {"index", "\u5c5e\u6027"}) {
            equal(sent.getUserProperty(name), got.getUserProperty(name), "property " + name + " of message " + i);
        }
        long now = System.currentTimeMillis();
        check(got.getBornTimestamp() > now - 600_000 && got.getBornTimestamp() <= now, "message " + i + " was born at " + got.getBornTimestamp());
        check(got.getStoreTimestamp() >= got.getBornTimestamp() - 50 && got.getStoreTimestamp() <= now, "message " + i + " was stored at " + got.getStoreTimestamp());
        equal("127.0.0.1", got.getBornHostString(), "where message " + i + " was born");
        check(got.getStoreHost() != null && got.getStoreSize() > got.getBody().length, "message " + i + " was stored at " + got.getStoreHost());
    }

    static int index(Message message) {
        return Integer.parseInt(message.getUserProperty("index"));
    }

    private static SendResult ok(SendResult result) {
        equal(SendStatus.SEND_OK, result.getSendStatus(), "the status of a send");
        return result;
    }

    private Map<Integer, SendResult> send(String topic, int count) throws Exception {
        return sendRange(topic, 0, count);
    }

    private Map<Integer, SendResult> sendRange(String topic, int from, int to) throws Exception {
        Map<Integer, SendResult> sent = new HashMap<>();
        for (int i = from; i < to; i++) sent.put(i, ok(producer.send(Interop.message(topic, i))));
        return sent;
    }

    private String topic(String topic, int queues) throws Exception {
        return topic(producer, topic, queues);
    }

    private static String topic(DefaultMQProducer producer, String topic, int queues) throws Exception {
        for (Method method : DefaultMQProducer.class.getMethods()) {
            Class<?>[] types = method.getParameterTypes();
            // The newer one takes attributes too.
            boolean plain = types.length == 3, newer = types.length == 4 && types[3] == Map.class;
            if (!method.getName().equals("createTopic") || !(plain || newer)) continue;
            try {
                if (plain) method.invoke(producer, "TBW102", topic, queues);
                else method.invoke(producer, "TBW102", topic, queues, new HashMap<String, String>());
            } catch (InvocationTargetException e) {
                throw (Exception) e.getCause();
            }
            break;
        }
        until("the route of " + topic, () -> {
            try {
                return producer.fetchPublishMessageQueues(topic).size() == queues ? true : null;
            } catch (MQClientException e) {
                return null;
            }
        });
        return topic;
    }

    private static DefaultMQProducer producer(String group, String namesrv) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(group);
        producer.setNamesrvAddr(namesrv);
        producer.setInstanceName(group + "-" + System.nanoTime());
        producer.setSendMsgTimeout(10_000);
        // One that meets another heartbeat of its client is left out until the next, and so long no reply comes.
        producer.setHeartbeatBrokerInterval(3000);
        producer.start();
        return producer;
    }

    private DefaultMQPushConsumer push(String group, String topic, String expression) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        consumer.setNamesrvAddr(namesrv);
        consumer.setInstanceName(group + "-" + System.nanoTime());
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        // One that meets another heartbeat of its client is left out until the next.
        consumer.setHeartbeatBrokerInterval(3000);
        consumer.setConsumeThreadMin(4);
        consumer.setConsumeThreadMax(4);
        if (topic != null) consumer.subscribe(topic, expression);
        return consumer;
    }

    private DefaultMQPullConsumer puller(String group) throws Exception {
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(group);
        consumer.setNamesrvAddr(namesrv);
        consumer.setInstanceName(group + "-" + System.nanoTime());
        consumer.start();
        return consumer;
    }

    private DefaultLitePullConsumer lite(String group) {
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(group);
        consumer.setNamesrvAddr(namesrv);
        consumer.setInstanceName(group + "-" + System.nanoTime());
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setAutoCommit(false);
        return consumer;
    }

    /** All that lies in a topic, once it is so much. */
    private List<MessageExt> readAll(String topic, int count) throws Exception {
        DefaultMQPullConsumer consumer = puller("life-reader-" + topic.replace("%", ""));
        List<MessageExt> all = until(() -> count + " messages in " + topic, () -> {
            List<MessageExt> messages = new ArrayList<>();
            try {
                for (MessageQueue queue : consumer.fetchSubscribeMessageQueues(topic)) {
                    for (long at = 0, end = consumer.maxOffset(queue); at < end;) {
                        PullResult result = consumer.pull(queue, "*", at, 32);
                        at = result.getNextBeginOffset();
                        if (result.getPullStatus() == PullStatus.FOUND) messages.addAll(result.getMsgFoundList());
                    }
                }
            } catch (MQClientException e) {
                return null; // there is no such topic yet
            }
            return messages.size() >= count ? messages : null;
        });
        equal(count, all.size(), "messages in " + topic);
        consumer.shutdown();
        return all;
    }

    /** Waits until so many queues of its topic are its. */
    private static void assigned(DefaultMQPushConsumer consumer, int count) throws Exception {
        Callable<Integer> queues = () -> {
            int own = 0;
            for (MessageQueue queue : consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().keySet()) {
                if (!queue.getTopic().startsWith("%RETRY%")) own++;
            }
            return own;
        };
        until(() -> count + " queues for " + consumer.getConsumerGroup(), () -> queues.call() == count ? true : null);
    }

    /**
     * Waits until the broker has the end of each of their queues as consumed. A client commits every 5 s and when it gives a
     * queue up, and the next owner may ask before that: only what is committed is not given again.
     */
    private static void committed(String topic, DefaultMQPushConsumer... owners) throws Exception {
        consumed(topic, owners);
        for (DefaultMQPushConsumer owner : owners) {
            DefaultMQPushConsumerImpl impl = owner.getDefaultMQPushConsumerImpl();
            // With a table of its own: what is read back does not go over what the consumer has counted since.
            RemoteBrokerOffsetStore broker = new RemoteBrokerOffsetStore(impl.getmQClientFactory(), owner.getConsumerGroup());
            for (MessageQueue queue : impl.getRebalanceImpl().getProcessQueueTable().keySet()) {
                if (!queue.getTopic().equals(topic)) continue;
                long end = owner.maxOffset(queue);
                impl.persistConsumerOffset();
                until("the commit in " + queue, () -> broker.readOffset(queue, ReadOffsetType.READ_FROM_STORE) == end ? true : null);
            }
        }
    }

    /** Waits until they have counted all of their queues as consumed: what a listener has taken is counted a moment later. */
    private static void consumed(String topic, DefaultMQPushConsumer... owners) throws Exception {
        for (DefaultMQPushConsumer owner : owners) {
            DefaultMQPushConsumerImpl impl = owner.getDefaultMQPushConsumerImpl();
            for (MessageQueue queue : impl.getRebalanceImpl().getProcessQueueTable().keySet()) {
                if (!queue.getTopic().equals(topic)) continue;
                long end = owner.maxOffset(queue);
                until("the end of " + queue + " is consumed", () ->
                    impl.getOffsetStore().readOffset(queue, ReadOffsetType.READ_FROM_MEMORY) == end ? true : null);
            }
        }
    }

    private static <T> T until(String what, Callable<T> ask) throws Exception {
        return until(() -> what, ask);
    }

    /** Asks again until there is an answer. */
    private static <T> T until(java.util.function.Supplier<String> what, Callable<T> ask) throws Exception {
        long end = System.currentTimeMillis() + PATIENCE_MS;
        while (true) {
            T answer = ask.call();
            if (answer != null) return answer;
            if (System.currentTimeMillis() > end) throw new IllegalStateException("waited in vain for " + what.get());
            Thread.sleep(20);
        }
    }

    /** What it is refused with. */
    private static <E extends Exception> E refusal(Class<E> kind, Callable<?> action) throws Exception {
        try {
            action.call();
        } catch (Exception e) {
            if (kind.isInstance(e)) return kind.cast(e);
            throw e;
        }
        throw new IllegalStateException("it was not refused");
    }

    private static List<Integer> sorted(List<Integer> numbers) {
        List<Integer> copy = new ArrayList<>(numbers);
        Collections.sort(copy);
        return copy;
    }

    static void check(boolean holds, String what) {
        if (!holds) throw new IllegalStateException(what);
    }

    static void equal(Object expected, Object found, String what) {
        if (!expected.equals(found)) throw new IllegalStateException(what + ": expected " + expected + ", found " + found);
    }
}
