package interop;

import java.util.Collections;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.client.producer.TransactionSendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Transactional messages: what TransactionMQProducer does. The server is started so that it asks after one second. */
final class Transactions {
    private Transactions() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("transaction-commit", Transactions::commit);
        cases.put("transaction-rollback", Transactions::rollback);
        cases.put("transaction-unknown-then-commit", kit -> unknown(kit, LocalTransactionState.COMMIT_MESSAGE));
        cases.put("transaction-unknown-then-rollback", kit -> unknown(kit, LocalTransactionState.ROLLBACK_MESSAGE));
        cases.put("transaction-unknown-twice", Transactions::unknownTwice);
        cases.put("transaction-second-instance", Transactions::secondInstance);
    }

    /** Says the same each time, and remembers what it was asked. */
    private static class Listener implements TransactionListener {
        final LocalTransactionState local;
        final LocalTransactionState[] checks;
        final AtomicInteger count = new AtomicInteger();
        final AtomicReference<MessageExt> asked = new AtomicReference<>();

        Listener(LocalTransactionState local, LocalTransactionState... checks) {
            this.local = local;
            this.checks = checks;
        }

        @Override
        public LocalTransactionState executeLocalTransaction(Message message, Object argument) {
            return local;
        }

        @Override
        public LocalTransactionState checkLocalTransaction(MessageExt message) {
            asked.set(message);
            return checks[Math.min(count.getAndIncrement(), checks.length - 1)];
        }
    }

    private static TransactionMQProducer producer(Kit kit, String group, Listener listener) throws Exception {
        TransactionMQProducer producer = new TransactionMQProducer(group, kit.hook());
        producer.setTransactionListener(listener);
        kit.start(producer);
        return producer;
    }

    private static TransactionSendResult send(TransactionMQProducer producer, String topic, String body) throws Exception {
        Message message = new Message(topic, "TagA", "key-" + body, Kit.bytes(body));
        message.putUserProperty("colour", "blue");
        return producer.sendMessageInTransaction(message, null);
    }

    private static void commit(Kit kit) throws Exception {
        String topic = kit.unique("topic");
        TransactionMQProducer producer =
            producer(kit, kit.unique("producer"), new Listener(LocalTransactionState.COMMIT_MESSAGE));
        TransactionSendResult result = send(producer, topic, "committed");
        Kit.equal(LocalTransactionState.COMMIT_MESSAGE, result.getLocalTransactionState(), "local state");
        Kit.equal(result.getMsgId(), result.getTransactionId(), "transaction id");
        MessageExt got = kit.collect(kit.unique("group"), topic, "TagA").awaitOne();
        kit.note("message", got);
        Kit.equal("committed", Kit.text(got.getBody()), "body");
        Kit.equal(result.getMsgId(), got.getMsgId(), "message id");
        Kit.equal(result.getTransactionId(), got.getTransactionId(), "transaction id of the message");
        Kit.equal("key-committed", got.getKeys(), "keys");
        Kit.equal("blue", got.getUserProperty("colour"), "user property");
        Kit.equal(0L, got.getQueueOffset(), "queue offset");
        Kit.equal(8, got.getSysFlag() & 12, "transaction bits");
        Kit.check(got.getPreparedTransactionOffset() > 0, "offset of the half");
    }

    private static void rollback(Kit kit) throws Exception {
        String topic = kit.unique("topic");
        Listener listener = new Listener(LocalTransactionState.ROLLBACK_MESSAGE, LocalTransactionState.COMMIT_MESSAGE);
        TransactionMQProducer producer = producer(kit, kit.unique("producer"), listener);
        send(producer, topic, "rolled back");
        Inbox inbox = kit.collect(topic);
        Thread.sleep(2500); /* longer than until a check */
        Kit.send(producer, topic, "", "after");
        inbox.expect(Collections.singletonList("after"));
        Kit.equal(0, listener.count.get(), "checks");
    }

    private static void unknown(Kit kit, LocalTransactionState answer) throws Exception {
        String topic = kit.unique("topic");
        Listener listener = new Listener(LocalTransactionState.UNKNOW, answer);
        TransactionMQProducer producer = producer(kit, kit.unique("producer"), listener);
        TransactionSendResult result = send(producer, topic, "unknown");
        Inbox inbox = kit.collect(topic);
        Kit.eventually(1, listener.count::get, "checks");
        MessageExt asked = listener.asked.get();
        kit.note("question", asked);
        Kit.equal(topic, asked.getTopic(), "topic of the question");
        Kit.equal("unknown", Kit.text(asked.getBody()), "body of the question");
        Kit.equal("blue", asked.getUserProperty("colour"), "user property of the question");
        Kit.equal("TagA", asked.getTags(), "tags of the question");
        Kit.equal(result.getTransactionId(), asked.getTransactionId(), "transaction id of the question");
        if (answer == LocalTransactionState.COMMIT_MESSAGE) {
            inbox.expect(Collections.singletonList("unknown"));
            kit.note("message", inbox.messages().get(0));
        }
        Thread.sleep(2500);
        Kit.equal(1, listener.count.get(), "checks after the answer");
        Kit.send(producer, topic, "", "after");
        inbox.expect(answer == LocalTransactionState.COMMIT_MESSAGE ? java.util.Arrays.asList("unknown", "after")
            : Collections.singletonList("after"));
    }

    private static void unknownTwice(Kit kit) throws Exception {
        String topic = kit.unique("topic");
        Listener listener = new Listener(LocalTransactionState.UNKNOW, LocalTransactionState.UNKNOW,
            LocalTransactionState.UNKNOW, LocalTransactionState.COMMIT_MESSAGE);
        TransactionMQProducer producer = producer(kit, kit.unique("producer"), listener);
        send(producer, topic, "patience");
        kit.collect(topic).expect(Collections.singletonList("patience"));
        Kit.equal(3, listener.count.get(), "checks");
    }

    /** The instance that sent the half is killed; another of its group is asked. */
    private static void secondInstance(Kit kit) throws Exception {
        String topic = kit.unique("topic");
        String group = kit.unique("producer");
        Listener listener = new Listener(LocalTransactionState.UNKNOW, LocalTransactionState.COMMIT_MESSAGE);
        Child first = kit.later(new Child(Main.class, "silent-producer", kit.namesrv, group, topic));
        String id = first.await("half");
        first.kill();
        TransactionMQProducer second = producer(kit, group, listener);
        Kit.send(second, kit.unique("topic"), "", "so that it knows a broker");
        MessageExt got = kit.collect(topic).awaitOne();
        Kit.equal("orphan", Kit.text(got.getBody()), "body");
        Kit.equal(id, got.getTransactionId(), "transaction id");
        Kit.equal(1, listener.count.get(), "checks of the second");
    }

    /** Sends a half, decides nothing, waits to be killed. */
    static void silentProducer(String namesrv, String group, String topic) throws Exception {
        try (Kit kit = new Kit("silent", namesrv, "")) {
            TransactionMQProducer producer =
                producer(kit, group, new Listener(LocalTransactionState.UNKNOW, LocalTransactionState.UNKNOW));
            System.out.println("half " + send(producer, topic, "orphan").getTransactionId());
            System.out.flush();
            Thread.sleep(60_000);
        }
    }
}
