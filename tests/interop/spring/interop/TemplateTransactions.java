package interop;

import static org.apache.rocketmq.spring.core.RocketMQLocalTransactionState.COMMIT;
import static org.apache.rocketmq.spring.core.RocketMQLocalTransactionState.ROLLBACK;
import static org.apache.rocketmq.spring.core.RocketMQLocalTransactionState.UNKNOWN;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Map;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionSendResult;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.spring.core.RocketMQLocalTransactionState;
import org.apache.rocketmq.spring.support.RocketMQHeaders;
import org.springframework.messaging.Message;
import org.springframework.messaging.support.MessageBuilder;

/** RocketMQTemplate and @RocketMQTransactionListener. The server is started so that it asks after one second. */
final class TemplateTransactions {
    private TemplateTransactions() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("transaction-commit", TemplateTransactions::commit);
        cases.put("transaction-rollback", TemplateTransactions::rollback);
        cases.put("transaction-unknown-then-commit", kit -> unknown(kit, COMMIT));
        cases.put("transaction-unknown-then-rollback", kit -> unknown(kit, ROLLBACK));
        cases.put("transaction-unknown-twice", TemplateTransactions::unknownTwice);
        cases.put("transaction-second-instance", TemplateTransactions::secondInstance);
    }

    private static App app(Kit kit, String group, RocketMQLocalTransactionState local, RocketMQLocalTransactionState... answers) {
        App app = App.start(kit, Collections.singletonList("rocketmq.producer.group=" + group), Listeners.Deciding.class);
        Listeners.Deciding listener = app.bean(Listeners.Deciding.class);
        listener.local = local;
        listener.answers = answers;
        return app;
    }

    private static TransactionSendResult send(App app, String topic, String body) {
        return app.template().sendMessageInTransaction(topic + ":TagA", MessageBuilder.withPayload(body)
            .setHeader(RocketMQHeaders.KEYS, "key-" + body).setHeader("colour", "blue").build(), "argument of " + body);
    }

    private static void commit(Kit kit) throws Exception {
        String topic = kit.unique("topic");
        App app = app(kit, kit.unique("producer"), COMMIT, ROLLBACK);
        TransactionSendResult result = send(app, topic, "committed");
        Kit.equal(LocalTransactionState.COMMIT_MESSAGE, result.getLocalTransactionState(), "local state");
        Kit.equal("argument of committed", app.bean(Listeners.Deciding.class).argument, "argument");
        MessageExt got = kit.collect(kit.unique("group"), topic, "TagA").awaitOne();
        Kit.equal("committed", Kit.text(got.getBody()), "body");
        Kit.equal(result.getTransactionId(), got.getTransactionId(), "transaction id of the message");
        Kit.equal("key-committed", got.getKeys(), "keys");
        Kit.equal("blue", got.getUserProperty("colour"), "user property");
    }

    private static void rollback(Kit kit) throws Exception {
        String topic = kit.unique("topic");
        App app = app(kit, kit.unique("producer"), ROLLBACK, COMMIT);
        send(app, topic, "rolled back");
        Inbox inbox = kit.collect(topic);
        Thread.sleep(2500); /* longer than until a check */
        app.template().syncSend(topic, "after");
        inbox.expect(Collections.singletonList("after"));
        Kit.equal(0, app.bean(Listeners.Deciding.class).asked.size(), "checks");
    }

    private static void unknown(Kit kit, RocketMQLocalTransactionState answer) throws Exception {
        String topic = kit.unique("topic");
        App app = app(kit, kit.unique("producer"), UNKNOWN, answer);
        TransactionSendResult result = send(app, topic, "unknown");
        Inbox inbox = kit.collect(topic);
        Listeners.Deciding listener = app.bean(Listeners.Deciding.class);
        Kit.eventually(1, listener.asked::size, "checks");
        Message<?> asked = listener.asked.get(0);
        Kit.equal("unknown", Kit.text((byte[]) asked.getPayload()), "body of the question");
        Kit.equal(topic, asked.getHeaders().get("rocketmq_TOPIC"), "topic of the question");
        Kit.equal("TagA", asked.getHeaders().get("rocketmq_TAGS"), "tags of the question");
        Kit.equal("key-unknown", asked.getHeaders().get("rocketmq_KEYS"), "keys of the question");
        Kit.equal("blue", asked.getHeaders().get("colour"), "user property of the question");
        Kit.equal(result.getTransactionId(), asked.getHeaders().get("rocketmq_TRANSACTION_ID"), "transaction id of the question");
        Thread.sleep(2500);
        Kit.equal(1, listener.asked.size(), "checks after the answer");
        app.template().syncSend(topic, "after");
        inbox.expect(answer == COMMIT ? Arrays.asList("unknown", "after") : Collections.singletonList("after"));
    }

    private static void unknownTwice(Kit kit) throws Exception {
        String topic = kit.unique("topic");
        App app = app(kit, kit.unique("producer"), UNKNOWN, UNKNOWN, UNKNOWN, COMMIT);
        send(app, topic, "patience");
        kit.collect(topic).expect(Collections.singletonList("patience"));
        Kit.equal(3, app.bean(Listeners.Deciding.class).asked.size(), "checks");
    }

    /** The service that sent the half is killed; another instance of it is asked. */
    private static void secondInstance(Kit kit) throws Exception {
        String topic = kit.unique("topic");
        String group = kit.unique("producer");
        Child first = kit.later(new Child(SpringMain.class, "silent-producer", kit.namesrv, group, topic));
        String id = first.await("half");
        first.kill();
        App second = app(kit, group, UNKNOWN, COMMIT);
        second.template().syncSend(kit.unique("topic"), "so that it knows a broker");
        MessageExt got = kit.collect(topic).awaitOne();
        Kit.equal("orphan", Kit.text(got.getBody()), "body");
        Kit.equal(id, got.getTransactionId(), "transaction id");
        Kit.equal(1, second.bean(Listeners.Deciding.class).asked.size(), "checks of the second");
    }

    /** Sends a half, decides nothing, waits to be killed. */
    static void silentProducer(String namesrv, String group, String topic) throws Exception {
        try (Kit kit = new Kit("silent", namesrv, "")) {
            System.out.println("half " + send(app(kit, group, UNKNOWN, UNKNOWN), topic, "orphan").getTransactionId());
            System.out.flush();
            Thread.sleep(60_000);
        }
    }
}
