import java.io.PrintWriter;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageClientExt;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * What a broker is asked while it serves a data directory. In this order, one JSON object a line:
 *
 *   OUT-found.jsonl  every queue and message, and some messages looked up by each key, unique key and place; of the last topic
 *                    nothing, nor of any with FIRST 0: they are made by the sends
 *   OUT-sent.jsonl   an answer per message FIRST..FIRST+COUNT of each topic; the last BATCH of a topic go as one
 *   OUT-left.jsonl   as the first, once more; with HOW `commit` the group's offsets are moved before
 *   OUT-load.jsonl   answers to sends of four threads for SECONDS, going on after errors
 */
final class Visit {
    static final int LOOK_UPS = 50;
    static final long PATIENCE_MS = 20_000;

    private final List<String> topics;
    private final DefaultMQProducer producer = new DefaultMQProducer("interop-visit-producer");
    private final DefaultMQPullConsumer consumer;

    private Visit(String namesrv, String group, List<String> topics) throws Exception {
        this.topics = topics;
        String instance = "visit-" + System.nanoTime();
        producer.setNamesrvAddr(namesrv);
        producer.setInstanceName(instance);
        producer.setSendMsgTimeout(3000);
        producer.setRetryTimesWhenSendFailed(0);
        producer.start();
        consumer = new DefaultMQPullConsumer(group);
        consumer.setNamesrvAddr(namesrv);
        consumer.setInstanceName(instance);
        consumer.start();
    }

    static void run(String[] args) throws Exception {
        int first = Integer.parseInt(args[3]);
        int count = Integer.parseInt(args[4]);
        String out = args[8];
        Visit visit = new Visit(args[1], args[2], List.of(args).subList(9, args.length));
        List<String> known = first == 0 ? List.of() : visit.topics.subList(0, visit.topics.size() - 1);
        visit.read(known, out + "-found.jsonl");
        visit.send(first, count, Integer.parseInt(args[5]), out + "-sent.jsonl");
        if (args[6].equals("commit")) visit.commit();
        visit.read(visit.topics, out + "-left.jsonl");
        visit.load(first + count, Integer.parseInt(args[7]), out + "-load.jsonl");
        visit.consumer.shutdown();
        visit.producer.shutdown();
    }

    /** Now and then one that the client compresses. */
    static Message message(String topic, int i) {
        Message message = Interop.message(topic, i);
        if (i % 50 != 7) return message;
        byte[] once = message.getBody();
        byte[] body = new byte[once.length * 200];
        for (int at = 0; at < body.length; at += once.length) System.arraycopy(once, 0, body, at, once.length);
        message.setBody(body);
        return message;
    }

    private void send(int first, int count, int batched, String out) throws Exception {
        Map<MessageQueue, Long> ends = new TreeMap<>();
        try (PrintWriter writer = Interop.open(out)) {
            for (String topic : topics) {
                List<Message> batch = new ArrayList<>();
                for (int i = first; i < first + count; i++) {
                    if (i >= first + count - batched) {
                        batch.add(message(topic, i));
                        continue;
                    }
                    SendResult result = producer.send(message(topic, i));
                    writer.println(line(topic, i, result, 0));
                    ends.put(result.getMessageQueue(), result.getQueueOffset() + 1);
                }
                if (batch.isEmpty()) continue;
                SendResult result = producer.send(batch);
                for (int n = 0; n < batched; n++) writer.println(line(topic, first + count - batched + n, result, n));
                ends.put(result.getMessageQueue(), result.getQueueOffset() + batched);
            }
        }
        // A queue shows a message a moment after it was acknowledged.
        for (Map.Entry<MessageQueue, Long> end : ends.entrySet()) {
            until("the end of " + end, () -> consumer.maxOffset(end.getKey()) >= end.getValue() ? true : null);
        }
    }

    private void load(int first, int seconds, String out) throws Exception {
        long end = System.nanoTime() + seconds * 1_000_000_000L;
        AtomicInteger next = new AtomicInteger(first);
        try (PrintWriter writer = Interop.open(out)) {
            Thread[] threads = new Thread[4];
            for (int t = 0; t < threads.length; t++) {
                threads[t] = new Thread(() -> {
                    while (System.nanoTime() < end) {
                        int i = next.getAndIncrement();
                        String topic = topics.get(i % topics.size());
                        try {
                            SendResult result = producer.send(message(topic, i));
                            synchronized (writer) { writer.println(line(topic, i, result, 0)); }
                        } catch (Exception e) {
                            try { Thread.sleep(50); } catch (InterruptedException ignored) { return; }
                        }
                    }
                });
                threads[t].start();
            }
            for (Thread thread : threads) thread.join();
        }
    }

    private Set<MessageQueue> queues(String topic) throws Exception {
        return until("the route of " + topic, () -> {
            try {
                return consumer.fetchSubscribeMessageQueues(topic);
            } catch (MQClientException e) {
                return null; // the broker registers
            }
        });
    }

    /** Moves the group in every queue to a place that tells the queue. */
    private void commit() throws Exception {
        for (String topic : topics) {
            for (MessageQueue queue : queues(topic)) {
                long max = consumer.maxOffset(queue);
                long to = Math.min(max / 2 + queue.getQueueId(), max);
                consumer.updateConsumeOffset(queue, to);
                consumer.getDefaultMQPullConsumerImpl().getOffsetStore().persistAll(Set.of(queue));
                until("the commit in " + queue, () -> consumer.fetchConsumeOffset(queue, true) == to ? true : null);
            }
        }
    }

    private void read(List<String> topics, String out) throws Exception {
        try (PrintWriter writer = Interop.open(out)) {
            List<MessageExt> all = new ArrayList<>();
            for (String topic : topics) {
                for (MessageQueue queue : new TreeSet<>(queues(topic))) {
                    long min = consumer.minOffset(queue);
                    long max = consumer.maxOffset(queue);
                    Map<String, Object> fields = new TreeMap<>();
                    fields.put("kind", "queue");
                    fields.put("topic", topic);
                    fields.put("queueId", queue.getQueueId());
                    fields.put("min", min);
                    fields.put("max", max);
                    fields.put("committed", consumer.fetchConsumeOffset(queue, true));
                    writer.println(Interop.json(fields));
                    for (long at = min; at < max;) {
                        PullResult result = consumer.pull(queue, "*", at, 32);
                        if (result.getPullStatus() != PullStatus.FOUND) {
                            throw new IllegalStateException(queue + " at " + at + ": " + result);
                        }
                        for (MessageExt message : result.getMsgFoundList()) {
                            writer.println(line("message", "pull", message));
                            all.add(message);
                        }
                        at = result.getNextBeginOffset();
                    }
                }
            }
            // The newest, which a crash may cost its place in the index, and some of every age.
            all.sort(Comparator.comparingLong(MessageExt::getCommitLogOffset));
            for (int n = 0; n < Math.min(LOOK_UPS, all.size()); n++) {
                look(writer, all.get(all.size() - 1 - n));
                look(writer, all.get(n * all.size() / LOOK_UPS));
            }
        }
    }

    private void look(PrintWriter writer, MessageExt message) throws Exception {
        String topic = message.getTopic();
        for (String key : message.getKeys().split(" ")) {
            List<MessageExt> found = until(topic + " " + key, () -> {
                try {
                    return consumer.queryMessage(topic, key, 32, 0, System.currentTimeMillis() + 1000).getMessageList();
                } catch (MQClientException e) {
                    return null; // the index is behind
                }
            });
            // After a crash Java files some messages twice.
            for (MessageExt one : found) writer.println(line("found", key, one));
        }
        String unique = message.getMsgId();
        Callable<MessageExt> byUnique = () -> consumer.getDefaultMQPullConsumerImpl().queryMessageByUniqKey(topic, unique);
        writer.println(line("found", unique, until(unique, byUnique)));
        String place = ((MessageClientExt) message).getOffsetMsgId();
        writer.println(line("found", place, consumer.viewMessage(topic, place)));
    }

    /** Asks again until there is an answer. */
    private static <T> T until(String what, Callable<T> ask) throws Exception {
        long end = System.currentTimeMillis() + PATIENCE_MS;
        while (true) {
            T answer = ask.call();
            if (answer != null) return answer;
            if (System.currentTimeMillis() > end) throw new IllegalStateException("no answer: " + what);
            Thread.sleep(20);
        }
    }

    static String line(String topic, int index, SendResult result, int place) {
        Map<String, Object> fields = new TreeMap<>();
        fields.put("topic", topic);
        fields.put("index", index);
        fields.put("status", result.getSendStatus().name());
        fields.put("msgId", result.getMsgId().split(",")[place]);
        fields.put("offsetMsgId", result.getOffsetMsgId().split(",")[place]);
        fields.put("queueId", result.getMessageQueue().getQueueId());
        fields.put("queueOffset", result.getQueueOffset() + place);
        return Interop.json(fields);
    }

    static String line(String kind, String by, MessageExt message) {
        Map<String, String> properties = new TreeMap<>(message.getProperties());
        // The client's own notes about a pull.
        properties.remove("MIN_OFFSET");
        properties.remove("MAX_OFFSET");
        Map<String, Object> fields = new TreeMap<>();
        fields.put("kind", kind);
        fields.put("by", by);
        fields.put("topic", message.getTopic());
        fields.put("queueId", message.getQueueId());
        fields.put("queueOffset", message.getQueueOffset());
        fields.put("msgId", message.getMsgId());
        fields.put("offsetMsgId", ((MessageClientExt) message).getOffsetMsgId());
        fields.put("commitLogOffset", message.getCommitLogOffset());
        fields.put("storeSize", message.getStoreSize());
        fields.put("sysFlag", message.getSysFlag());
        fields.put("flag", message.getFlag());
        fields.put("bornTimestamp", message.getBornTimestamp());
        fields.put("bornHost", message.getBornHost());
        fields.put("storeTimestamp", message.getStoreTimestamp());
        fields.put("storeHost", message.getStoreHost());
        fields.put("reconsumeTimes", message.getReconsumeTimes());
        fields.put("preparedTransactionOffset", message.getPreparedTransactionOffset());
        fields.put("bodyCRC", message.getBodyCRC());
        fields.put("body", new String(message.getBody(), java.nio.charset.StandardCharsets.UTF_8));
        fields.put("tags", message.getTags());
        fields.put("keys", message.getKeys());
        fields.put("user", message.getUserProperty("index"));
        fields.put("userText", message.getUserProperty("\u5c5e\u6027"));
        fields.put("properties", MessageDecoder.messageProperties2String(properties));
        return Interop.json(fields);
    }
}
