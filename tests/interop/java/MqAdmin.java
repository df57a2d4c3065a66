import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.Field;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/**
 * Runs mqadmin commands in one JVM. Each line of the input is a command, its words separated by tabs; what the command prints
 * follows, and then a line with the byte 1. Lines that begin with an exclamation mark are for the clients that the commands
 * are asked about.
 */
public class MqAdmin {
    static final Map<String, DefaultMQProducer> PRODUCERS = new HashMap<>();
    static final Map<String, DefaultMQPushConsumer> CONSUMERS = new HashMap<>();
    static final Map<String, AtomicInteger> CONSUMED = new HashMap<>();

    static final List<?> COMMANDS = commands();

    /** The list of commands, which 4.x and 5.x name differently. */
    static List<?> commands() {
        for (Field field : MQAdminStartup.class.getDeclaredFields()) {
            if (List.class.isAssignableFrom(field.getType())) {
                try {
                    field.setAccessible(true);
                    return (List<?>) field.get(null);
                } catch (IllegalAccessException hidden) {
                    throw new IllegalStateException(hidden);
                }
            }
        }
        throw new IllegalStateException("mqadmin has no list of commands");
    }

    public static void main(String[] args) throws Exception {
        hurry();
        PrintStream real = System.out;
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        String line;
        while ((line = input.readLine()) != null) {
            ByteArrayOutputStream said = new ByteArrayOutputStream();
            PrintStream captured = new PrintStream(said, true, "UTF-8");
            System.setOut(captured);
            System.setErr(captured);
            String[] words = line.split("\t");
            try {
                if (words[0].startsWith("!")) {
                    client(words, args[0]);
                } else {
                    // Commands keep the producer of their last run: each run has new ones.
                    COMMANDS.clear();
                    MQAdminStartup.main0(words, null);
                }
            } catch (Throwable failed) {
                failed.printStackTrace(captured);
            }
            captured.flush();
            real.write(said.toByteArray());
            real.print("\n\u0001\n");
            real.flush();
        }
        System.exit(0);
    }

    /** 5.x joins a thread at each end of a command that may just have begun to wait for 3 s: it is woken. */
    static void hurry() {
        Thread waker = new Thread(() -> {
            while (true) {
                for (Thread thread : Thread.getAllStackTraces().keySet()) {
                    if (thread.getName().equals("NettyEventExecutor")) {
                        thread.interrupt();
                    }
                }
                try {
                    Thread.sleep(100);
                } catch (InterruptedException nobody) {
                    return;
                }
            }
        });
        waker.setDaemon(true);
        waker.start();
    }

    static void client(String[] words, String namesrv) throws Exception {
        String group = words[1];
        switch (words[0]) {
            case "!produce": produce(group, words[2], Integer.parseInt(words[3]), namesrv); break;
            case "!consume": consume(group, words[2], namesrv); break;
            case "!consumed": System.out.println(CONSUMED.get(group).get()); break;
            case "!stop": CONSUMERS.remove(group).shutdown(); break;
            default: throw new IllegalArgumentException(words[0]);
        }
    }

    static void produce(String group, String topic, int count, String namesrv) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(group);
        producer.setNamesrvAddr(namesrv);
        producer.setInstanceName(group);
        producer.start();
        PRODUCERS.put(group, producer);
        for (int i = 0; i < count; i++) {
            Message message = new Message(topic, "TagA", "key-" + i, ("body-" + i).getBytes(StandardCharsets.UTF_8));
            final int index = i;
            SendResult sent = producer.send(message, (queues, one, arg) -> queues.get(index % queues.size()), null);
            System.out.println(sent.getMsgId() + " " + sent.getOffsetMsgId() + " " + sent.getMessageQueue().getQueueId());
        }
    }

    static void consume(String group, String topic, String namesrv) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        consumer.setNamesrvAddr(namesrv);
        consumer.setInstanceName(group);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        AtomicInteger count = new AtomicInteger();
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            count.addAndGet(messages.size());
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        CONSUMED.put(group, count);
        CONSUMERS.put(group, consumer);
        System.out.println(consumer.getDefaultMQPushConsumerImpl().getmQClientFactory().getClientId());
    }
}
