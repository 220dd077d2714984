package interop;

import static org.apache.rocketmq.client.producer.LocalTransactionState.COMMIT_MESSAGE;
import static org.apache.rocketmq.client.producer.LocalTransactionState.ROLLBACK_MESSAGE;
import static org.apache.rocketmq.client.producer.LocalTransactionState.UNKNOW;

import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.springframework.messaging.support.MessageBuilder;

/** Transactional bindings. The server is started so that it asks after one second. */
final class StreamTransactions {
    private StreamTransactions() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("transaction-commit", StreamTransactions::commit);
        cases.put("transaction-rollback", StreamTransactions::rollback);
        cases.put("transaction-unknown-then-commit", kit -> unknown(kit, COMMIT_MESSAGE));
        cases.put("transaction-unknown-then-rollback", kit -> unknown(kit, ROLLBACK_MESSAGE));
        cases.put("transaction-unknown-twice", StreamTransactions::unknownTwice);
        cases.put("transaction-second-instance", StreamTransactions::secondInstance);
    }

    /** Decides as it was told; a message with the body "warm-up" is rolled back. */
    private static class Listener implements TransactionListener {
        final LocalTransactionState local;
        final LocalTransactionState[] answers;
        final List<MessageExt> asked = new CopyOnWriteArrayList<>();
        volatile Object argument;
        volatile String transactionId;

        Listener(LocalTransactionState local, LocalTransactionState... answers) {
            this.local = local;
            this.answers = answers;
        }

        @Override
        public LocalTransactionState executeLocalTransaction(Message message, Object argument) {
            this.argument = argument;
            this.transactionId = message.getTransactionId();
            return Kit.text(message.getBody()).equals(StreamApp.json("warm-up")) ? ROLLBACK_MESSAGE : local;
        }

        @Override
        public synchronized LocalTransactionState checkLocalTransaction(MessageExt message) {
            asked.add(message);
            return answers[Math.min(asked.size(), answers.length) - 1];
        }
    }

    private static StreamApp app(Kit kit, String topic, Listener listener) {
        return new StreamApp(kit).sendTo(topic).decide(listener).start();
    }

    private static void send(StreamApp app, String body) {
        app.send(MessageBuilder.withPayload(body).setHeader("TAGS", "TagA").setHeader("KEYS", "key-" + body)
            .setHeader("colour", "blue").setHeader("TRANSACTIONAL_ARGS", "argument of " + body).build());
    }

    private static void commit(Kit kit) throws Exception {
        String topic = kit.unique("topic");
        Listener listener = new Listener(COMMIT_MESSAGE, ROLLBACK_MESSAGE);
        send(app(kit, topic, listener), "committed");
        Kit.equal("argument of committed", listener.argument, "argument");
        MessageExt got = kit.collect(kit.unique("group"), topic, "TagA").awaitOne();
        Kit.equal(StreamApp.json("committed"), Kit.text(got.getBody()), "body");
        Kit.equal(listener.transactionId, got.getTransactionId(), "transaction id of the message");
        Kit.equal("key-committed", got.getKeys(), "keys");
        Kit.equal("blue", got.getUserProperty("colour"), "header");
    }

    private static void rollback(Kit kit) throws Exception {
        String topic = kit.unique("topic");
        Listener listener = new Listener(ROLLBACK_MESSAGE, COMMIT_MESSAGE);
        send(app(kit, topic, listener), "rolled back");
        Inbox inbox = kit.collect(topic);
        Thread.sleep(2500); /* longer than until a check */
        Kit.send(kit.producer(), topic, "", "after");
        inbox.expect(Collections.singletonList("after"));
        Kit.equal(0, listener.asked.size(), "checks");
    }

    private static void unknown(Kit kit, LocalTransactionState answer) throws Exception {
        String topic = kit.unique("topic");
        Listener listener = new Listener(UNKNOW, answer);
        send(app(kit, topic, listener), "unknown");
        Inbox inbox = kit.collect(topic);
        Kit.eventually(1, listener.asked::size, "checks");
        MessageExt asked = listener.asked.get(0);
        Kit.equal(StreamApp.json("unknown"), Kit.text(asked.getBody()), "body of the question");
        Kit.equal(topic, asked.getTopic(), "topic of the question");
        Kit.equal("TagA", asked.getTags(), "tags of the question");
        Kit.equal("blue", asked.getUserProperty("colour"), "header of the question");
        Kit.equal(listener.transactionId, asked.getTransactionId(), "transaction id of the question");
        Thread.sleep(2500);
        Kit.equal(1, listener.asked.size(), "checks after the answer");
        Kit.send(kit.producer(), topic, "", "after");
        inbox.expect(answer == COMMIT_MESSAGE ? Arrays.asList(StreamApp.json("unknown"), "after") : Collections.singletonList("after"));
    }

    private static void unknownTwice(Kit kit) throws Exception {
        String topic = kit.unique("topic");
        Listener listener = new Listener(UNKNOW, UNKNOW, UNKNOW, COMMIT_MESSAGE);
        send(app(kit, topic, listener), "patience");
        kit.collect(topic).expect(Collections.singletonList(StreamApp.json("patience")));
        Kit.equal(3, listener.asked.size(), "checks");
    }

    /** The service that sent the half is killed; another instance, which has sent before (the binder sets the listener then), is asked. */
    private static void secondInstance(Kit kit) throws Exception {
        String topic = kit.unique("topic");
        String group = kit.unique("producer");
        Child first = kit.later(new Child(CloudMain.class, "silent-producer", kit.namesrv, group, topic));
        String id = first.await("half");
        first.kill();
        Listener listener = new Listener(UNKNOW, COMMIT_MESSAGE);
        send(new StreamApp(kit).sendTo(topic).output("group", group).decide(listener).start(), "warm-up");
        MessageExt got = kit.collect(topic).awaitOne();
        Kit.equal(StreamApp.json("orphan"), Kit.text(got.getBody()), "body");
        Kit.equal(id, got.getTransactionId(), "transaction id");
        Kit.equal(1, listener.asked.size(), "checks of the second");
    }

    /** Sends a half, decides nothing, waits to be killed. */
    static void silentProducer(String namesrv, String group, String topic) throws Exception {
        try (Kit kit = new Kit("silent", namesrv, "")) {
            Listener listener = new Listener(UNKNOW, UNKNOW);
            send(new StreamApp(kit).sendTo(topic).output("group", group).decide(listener).start(), "orphan");
            System.out.println("half " + listener.transactionId);
            System.out.flush();
            Thread.sleep(60_000);
        }
    }
}
