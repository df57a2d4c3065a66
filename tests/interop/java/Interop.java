import java.io.FileOutputStream;
import java.io.OutputStreamWriter;
import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * The original Java client at work, one JSON object a line into OUT.
 *
 *   produce NAMESRV TOPIC COUNT OUT           sends messages 0..COUNT, every kind of field set; a line per answer
 *   load    NAMESRV TOPIC SECONDS OUT         sends until told, going on after errors; a line per answer
 *   consume NAMESRV TOPIC GROUP COUNT SECONDS OUT
 *           push consumer, clustering, from the first offset; a line per message; ends at COUNT different ids or after SECONDS
 *   query   NAMESRV TOPIC COUNT SENT OUT      looks some of the messages that are in SENT up by each key and by unique key; a line per answer
 *   transact, leave, answer                   producers of transactions; see Transactions
 *   life NAMESRV COLD OUT                     all that an application does; see Life
 *   visit   NAMESRV GROUP FIRST COUNT BATCH HOW SECONDS OUT TOPIC...
 *           reads all that is there, adds to it, reads again; see Visit
 *
 * What goes on until it is told ends when there is a file OUT.enough, and after SECONDS without it.
 */
public class Interop {
    public static void main(String[] args) {
        try {
            run(args);
        } catch (Throwable e) {
            e.printStackTrace();
            System.exit(1); // the clients' threads would keep the process alive
        }
        System.exit(0);
    }

    static void run(String[] args) throws Exception {
        switch (args[0]) {
            case "produce": produce(args[1], args[2], Integer.parseInt(args[3]), args[4]); break;
            case "load": load(args[1], args[2], Integer.parseInt(args[3]), args[4]); break;
            case "consume": consume(args[1], args[2], args[3], Integer.parseInt(args[4]), Integer.parseInt(args[5]), args[6]); break;
            case "query": query(args[1], args[2], Integer.parseInt(args[3]), args[4], args[5]); break;
            case "visit": Visit.run(args); break;
            case "life": Life.run(args); break;
            case "transact": case "leave": case "answer": Transactions.run(args); break;
            default: throw new IllegalArgumentException(args[0]);
        }
    }

    static PrintWriter open(String path) throws Exception {
        return new PrintWriter(new OutputStreamWriter(new FileOutputStream(path), StandardCharsets.UTF_8), true);
    }

    /** When one ends that goes on until it is told. */
    static class Ending {
        private final long end;
        private final java.io.File enough;

        Ending(int seconds, String out) {
            end = System.nanoTime() + seconds * 1_000_000_000L;
            enough = new java.io.File(out + ".enough");
        }

        boolean isDue() { return enough.exists() || System.nanoTime() > end; }
    }

    static Message message(String topic, int i) {
        String body = "message " + i + " \u6d88\u606f \u00e9\u00e8 \ud83d\ude80";
        Message message = new Message(topic, "Tag" + (char) ('A' + i % 5), "key-" + i + " \u952e-" + i, body.getBytes(StandardCharsets.UTF_8));
        message.setFlag(i);
        message.putUserProperty("index", Integer.toString(i));
        message.putUserProperty("\u5c5e\u6027", "\u503c=" + i + "; \"quoted\" \\ \ttab");
        return message;
    }

    static void produce(String namesrv, String topic, int count, String out) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("interop-producer");
        producer.setNamesrvAddr(namesrv);
        producer.setInstanceName("produce-" + System.nanoTime());
        producer.setSendMsgTimeout(10000);
        producer.start();
        try (PrintWriter writer = open(out)) {
            for (int i = 0; i < count; i++) {
                Message message = message(topic, i);
                SendResult result = producer.send(message);
                writer.println(line(i, result));
            }
        }
        producer.shutdown();
    }

    static void load(String namesrv, String topic, int seconds, String out) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("interop-load");
        producer.setNamesrvAddr(namesrv);
        producer.setInstanceName("load-" + System.nanoTime());
        producer.setSendMsgTimeout(1000);
        producer.setRetryTimesWhenSendFailed(0);
        producer.start();
        Ending ending = new Ending(seconds, out);
        AtomicLong next = new AtomicLong();
        try (PrintWriter writer = open(out)) {
            Thread[] threads = new Thread[8];
            for (int t = 0; t < threads.length; t++) {
                threads[t] = new Thread(() -> {
                    while (!ending.isDue()) {
                        int i = (int) next.getAndIncrement();
                        try {
                            SendResult result = producer.send(message(topic, i));
                            synchronized (writer) { writer.println(line(i, result)); }
                        } catch (Exception e) {
                            try { Thread.sleep(50); } catch (InterruptedException ignored) { return; }
                        }
                    }
                });
                threads[t].start();
            }
            for (Thread thread : threads) thread.join();
        }
        producer.shutdown();
    }

    static String line(int i, SendResult result) {
        Map<String, Object> fields = new TreeMap<>();
        fields.put("index", i);
        fields.put("status", result.getSendStatus().name());
        fields.put("acked", result.getSendStatus() == SendStatus.SEND_OK);
        fields.put("msgId", result.getMsgId());
        fields.put("offsetMsgId", result.getOffsetMsgId());
        fields.put("broker", result.getMessageQueue().getBrokerName());
        fields.put("queueId", result.getMessageQueue().getQueueId());
        fields.put("queueOffset", result.getQueueOffset());
        return json(fields);
    }

    static void consume(String namesrv, String topic, String group, int count, int seconds, String out) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        consumer.setNamesrvAddr(namesrv);
        consumer.setInstanceName("consume-" + System.nanoTime());
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        java.util.Set<String> seen = java.util.concurrent.ConcurrentHashMap.newKeySet();
        PrintWriter writer = open(out);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                synchronized (writer) { writer.println(line(message)); }
                seen.add(message.getMsgId());
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        long end = System.nanoTime() + seconds * 1_000_000_000L;
        while (seen.size() < count && System.nanoTime() < end) Thread.sleep(20);
        consumer.shutdown();
        synchronized (writer) { writer.close(); }
    }

    static void query(String namesrv, String topic, int count, String sent, String out) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("interop-query");
        producer.setNamesrvAddr(namesrv);
        producer.setInstanceName("query-" + System.nanoTime());
        producer.start();
        List<String> answers = java.nio.file.Files.readAllLines(java.nio.file.Paths.get(sent));
        try (PrintWriter writer = open(out)) {
            for (int n = 0; n < count; n++) {
                String answer = answers.get(n * answers.size() / count);
                int index = Integer.parseInt(field(answer, "\"index\":", ","));
                String id = field(answer, "\"msgId\":\"", "\"");
                for (String key : new String[] {"key-" + index, "\u952e-" + index}) {
                    List<MessageExt> found = producer.queryMessage(topic, key, 32, 0, System.currentTimeMillis() + 1000).getMessageList();
                    if (found.size() != 1) throw new IllegalStateException(key + ": " + found);
                    writer.println(line(found.get(0)));
                }
                writer.println(line(producer.viewMessage(topic, id)));
            }
        }
        producer.shutdown();
    }

    /** What stands behind BEGIN, up to END. */
    static String field(String line, String begin, String end) {
        int from = line.indexOf(begin) + begin.length();
        return line.substring(from, line.indexOf(end, from));
    }

    static String line(MessageExt message) {
        Map<String, Object> fields = new TreeMap<>();
        fields.put("topic", message.getTopic());
        fields.put("tags", message.getTags());
        fields.put("keys", message.getKeys());
        fields.put("body", new String(message.getBody(), StandardCharsets.UTF_8));
        fields.put("flag", message.getFlag());
        fields.put("msgId", message.getMsgId());
        fields.put("queueId", message.getQueueId());
        fields.put("queueOffset", message.getQueueOffset());
        fields.put("reconsumeTimes", message.getReconsumeTimes());
        fields.put("bodyCRC", message.getBodyCRC());
        fields.put("bornTimestamp", message.getBornTimestamp());
        fields.put("storeTimestamp", message.getStoreTimestamp());
        fields.put("bornHost", message.getBornHostString());
        fields.put("user", message.getUserProperty("index"));
        fields.put("userText", message.getUserProperty("\u5c5e\u6027"));
        return json(fields);
    }

    static String json(Map<String, Object> fields) {
        StringBuilder text = new StringBuilder("{");
        for (Map.Entry<String, Object> entry : fields.entrySet()) {
            if (text.length() > 1) text.append(',');
            quote(text, entry.getKey());
            text.append(':');
            Object value = entry.getValue();
            if (value instanceof Number || value instanceof Boolean || value == null) text.append(value);
            else quote(text, value.toString());
        }
        return text.append('}').toString();
    }

    static void quote(StringBuilder text, String value) {
        text.append('"');
        for (char c : value.toCharArray()) {
            if (c == '"' || c == '\\') text.append('\\').append(c);
            else if (c < 0x20) text.append(String.format("\\u%04x", (int) c));
            else text.append(c);
        }
        text.append('"');
    }
}
