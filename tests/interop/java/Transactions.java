import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.TreeMap;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.client.producer.TransactionSendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * The original producer of transactions. What becomes of message i is its number modulo 4: 0 is committed at once, 1 is rolled back
 * at once, of 2 it says that it does not know and commits when it is asked, of 3 likewise and rolls back.
 *
 *   transact NAMESRV TOPIC COUNT SECONDS OUT  sends messages 0..COUNT, a line per answer and per question; stays until told
 *   leave    NAMESRV TOPIC COUNT OUT          sends messages, says of none what it came to, and dies
 *   answer   NAMESRV TOPIC SECONDS OUT        sends nothing, and answers for the others of its group until told
 */
class Transactions implements TransactionListener {
    private final PrintWriter writer;
    private final boolean saysNothing;

    Transactions(PrintWriter writer, boolean saysNothing) {
        this.writer = writer;
        this.saysNothing = saysNothing;
    }

    static void run(String[] args) throws Exception {
        boolean leaves = args[0].equals("leave"), sends = !args[0].equals("answer");
        PrintWriter writer = Interop.open(args[args.length - 1]);
        TransactionMQProducer producer = new TransactionMQProducer("interop-transactions");
        producer.setNamesrvAddr(args[1]);
        producer.setInstanceName(args[0] + "-" + System.nanoTime());
        producer.setSendMsgTimeout(10000);
        producer.setHeartbeatBrokerInterval(1000);
        producer.setTransactionListener(new Transactions(writer, leaves));
        producer.start();
        if (sends) {
            int count = Integer.parseInt(args[3]);
            for (int i = 0; i < count; i++) {
                TransactionSendResult result = producer.sendMessageInTransaction(Interop.message(args[2], i), null);
                told(writer, "sent", i, result.getMsgId(), result.getLocalTransactionState());
            }
        } else {
            // Its heartbeat goes to the brokers of the topics that it has sent to.
            for (int left = 10; ; left--) {
                try {
                    producer.send(Interop.message(args[2] + "Else", 0));
                    break;
                } catch (org.apache.rocketmq.client.exception.MQClientException | IllegalStateException slow) {
                    // A process that has just started does not always make the first second in which it asks for a route.
                    if (left == 0) throw slow;
                }
            }
        }
        if (leaves) Runtime.getRuntime().halt(0);
        Interop.Ending ending = new Interop.Ending(Integer.parseInt(args[args.length - 2]), args[args.length - 1]);
        while (!ending.isDue()) Thread.sleep(20);
        producer.shutdown();
    }

    static int index(Message message) {
        return Integer.parseInt(message.getUserProperty("index"));
    }

    static void told(PrintWriter writer, String what, int index, String id, LocalTransactionState state) {
        Map<String, Object> fields = new TreeMap<>();
        fields.put("what", what);
        fields.put("index", index);
        fields.put("msgId", id);
        fields.put("state", state.name());
        synchronized (writer) { writer.println(Interop.json(fields)); }
    }

    @Override
    public LocalTransactionState executeLocalTransaction(Message message, Object argument) {
        int index = index(message);
        if (saysNothing || index % 4 > 1) return LocalTransactionState.UNKNOW;
        return index % 4 == 0 ? LocalTransactionState.COMMIT_MESSAGE : LocalTransactionState.ROLLBACK_MESSAGE;
    }

    @Override
    public LocalTransactionState checkLocalTransaction(MessageExt message) {
        int index = index(message);
        String body = new String(message.getBody(), StandardCharsets.UTF_8);
        if (!body.startsWith("message " + index + " ")) throw new IllegalStateException(body);
        LocalTransactionState state = index % 2 == 0 ? LocalTransactionState.COMMIT_MESSAGE : LocalTransactionState.ROLLBACK_MESSAGE;
        told(writer, "asked", index, message.getTransactionId(), state);
        return state;
    }
}
