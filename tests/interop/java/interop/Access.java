package interop;

import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

/** Servers that want requests signed with RocketMQ's ACL hook, or connections inside TLS: other cases again, and who is refused. */
final class Access {
    private static final String[] SENDING = {"normal", "async", "one-way", "batch", "chosen-queue", "delayed", "create-topic"};
    private static final String[] CONSUMING =
        {"ordered", "retry", "broadcast", "offsets-are-kept", "lite-pull-subscribe", "pull", "clustering"};
    private static final String[] TRANSACTIONS =
        {"transaction-commit", "transaction-rollback", "transaction-unknown-then-commit", "request-reply"};
    private static final String[] POPPING = {"broker-assigns-queues", "pop-shared-queue", "pop-retry"};

    private Access() {
    }

    /** After all others: these run them again. The service is no administrator; topics are made for it (Kit.createTopic). */
    static void register(Map<String, Case> cases) {
        cases.put("access-keys", kit -> Runner.again(cases, () -> kit.as("service"), SENDING));
        cases.put("access-keys-consuming", kit -> Runner.again(cases, () -> kit.as("service"), CONSUMING));
        cases.put("access-keys-transactions", kit -> Runner.again(cases, () -> kit.as("service"), TRANSACTIONS));
        cases.put("access-keys-refused", Access::refused);
        cases.put("access-keys-permissions", Access::permissions);
        cases.put("access-keys-cloud", kit -> cloud(cases, kit));
        cases.put("tls", kit -> Runner.again(cases, kit::inTls, SENDING));
        cases.put("tls-consuming", kit -> Runner.again(cases, kit::inTls, CONSUMING));
        cases.put("tls-transactions", kit -> Runner.again(cases, kit::inTls, TRANSACTIONS));
        cases.put("tls-refused", Access::plainIsRefused);
        if (Kit.isVersion5()) {
            cases.put("access-keys-popping", kit -> Runner.again(cases, () -> kit.as("owner"), POPPING));
            cases.put("tls-popping", kit -> Runner.again(cases, kit::inTls, POPPING));
        }
    }

    /** What a client of Alibaba Cloud's service does: its requests have a field OnsChannel, its traces go to a topic of the region. */
    private static void cloud(Map<String, Case> cases, Kit kit) throws Exception {
        Runner.again(cases, () -> kit.as("service").ofCloud(), "normal", "batch", "ordered", "retry", "transaction-unknown-then-commit");
        Kit service = kit.as("service").ofCloud();
        DefaultMQProducer producer = service.start(new DefaultMQProducer(service.unique("producer"), service.hook(), true, null));
        String topic = service.createTopic(producer, 1);
        String id = Kit.send(producer, topic, "", "traced").getMsgId();
        Inbox traces = kit.as("owner").collect("rmq_sys_TRACE_DATA_DefaultRegion"); /* a system topic is an administrator's */
        Kit.eventually(true, () -> traces.bodies().stream().anyMatch(b -> b.contains("Pub") && b.contains(id)), "a trace");
    }

    private static void refused(Kit kit) throws Exception {
        Kit service = kit.as("service");
        DefaultMQProducer producer = service.producer();
        String topic = service.createTopic(producer, 1);
        Kit.untilNoException(() -> Kit.send(producer, topic, "", "m0"));
        DefaultMQProducer[] others = {kit.as("service", "another").producer(), kit.as("unknown").producer(), kit.as(null).producer()};
        String[] whose = {"a wrong secret", "an unknown access key", "no signature"};
        for (int i = 0; i < others.length; i++) {
            DefaultMQProducer other = others[i];
            kit.expectRefused("a message with " + whose[i], () -> other.send(new Message(topic, Kit.bytes("refused"))));
        }
        String another = kit.unique("topic");
        kit.expectRefused("a topic of no administrator", () -> {
            Kit.createTopic(producer, another, 1);
            return null;
        });
        kit.as("service").collect(topic).expect(Kit.numbered(1));
    }

    /** What one who may not pull is told. */
    private static void expectNoPull(Kit kit, String topic) throws Exception {
        DefaultMQPullConsumer consumer = kit.pullConsumer(kit.unique("group"));
        consumer.start();
        MessageQueue queue = Kit.untilNoException(() -> consumer.fetchSubscribeMessageQueues(topic)).iterator().next();
        try {
            consumer.pull(queue, "*", 0, 10);
        } catch (MQBrokerException e) {
            Kit.equal(16, e.getResponseCode(), "NO_PERMISSION");
            return;
        }
        throw new AssertionError("a pull from " + topic + " was answered");
    }

    private static void permissions(Kit kit) throws Exception {
        Kit owner = kit.as("owner");
        DefaultMQProducer all = owner.producer();
        String topic = owner.createTopic(all, 1);
        String hidden = kit.unique("hidden");
        Kit.createTopic(all, hidden, 1);
        DefaultMQProducer writer = kit.as("writer").producer();
        DefaultMQProducer reader = kit.as("reader").producer();
        Kit.untilNoException(() -> Kit.send(writer, topic, "", "m0"));
        Kit.untilNoException(() -> Kit.send(all, hidden, "", "secret"));
        kit.expectRefused("a message to a topic that is denied", () -> writer.send(new Message(hidden, Kit.bytes("refused"))));
        kit.expectRefused("a message of one who may read", () -> reader.send(new Message(topic, Kit.bytes("refused"))));
        expectNoPull(kit.as("writer"), topic);
        expectNoPull(kit.as("reader"), hidden);
        kit.as("reader").collect(topic).expect(Kit.numbered(1));
        kit.as("service").collect(hidden).expect(java.util.Collections.singletonList("secret"));
    }

    /** A client that does not speak TLS, at the server that takes nothing else. */
    private static void plainIsRefused(Kit kit) throws Exception {
        Kit secure = kit.inTls();
        DefaultMQProducer producer = secure.producer();
        String topic = secure.createTopic(producer, 1);
        Kit.untilNoException(() -> Kit.send(producer, topic, "", "m0"));
        DefaultMQProducer plain = new DefaultMQProducer(kit.unique("producer"));
        plain.setUseTLS(false);
        plain.setNamesrvAddr(secure.namesrv);
        plain.setInstanceName(kit.unique("instance"));
        plain.start();
        kit.later(plain::shutdown);
        kit.expectRefused("a plain connection", () -> plain.send(new Message(topic, Kit.bytes("refused"))));
        secure.collect(topic).expect(Kit.numbered(1));
    }
}
