package interop;

import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;

/** Message trace. */
final class Tracing {
    private Tracing() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("message-trace", Tracing::trace);
    }

    private static void trace(Kit kit) throws Exception {
        DefaultMQProducer producer =
            kit.start(new DefaultMQProducer(kit.unique("producer"), null, true, null));
        Inbox traces = kit.collect(kit.unique("group"), "RMQ_SYS_TRACE_TOPIC", "*");
        String topic = kit.unique("topic");
        Kit.send(producer, topic, "", "first");
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(kit.unique("group"), null,
            new org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragely(), true, null);
        consumer.setNamesrvAddr(kit.namesrv);
        consumer.setInstanceName(kit.unique("instance"));
        consumer.subscribe(topic, "*");
        Inbox inbox = new Inbox();
        consumer.registerMessageListener(inbox);
        kit.later(consumer::shutdown);
        consumer.start();
        inbox.await(1);
        String id = Kit.send(producer, topic, "", "traced").getMsgId();
        inbox.await(2);
        for (String type : new String[] {"Pub", "SubBefore", "SubAfter"}) {
            Kit.eventually(true, () -> traces.bodies().stream().anyMatch(b -> b.contains(type) && b.contains(id)),
                "a trace of " + type);
        }
        Kit.check(traces.messages().stream().anyMatch(m -> m.getKeys().contains(id)), "a trace has the id as key");
    }
}
