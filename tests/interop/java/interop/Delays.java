package interop;

import java.util.Map;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Messages that come later. */
final class Delays {
    private Delays() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("delayed", kit -> comesWhenDue(kit, message -> {
            message.setDelayTimeLevel(2);
            return System.currentTimeMillis() + 5000;
        }));
        if (Kit.isVersion5()) {
            cases.put("timed-delay", kit -> comesWhenDue(kit, message -> {
                Kit.call(message, "setDelayTimeMs", 2500L);
                return System.currentTimeMillis() + 2500;
            }));
            cases.put("timed-deliver-at", kit -> comesWhenDue(kit, message -> {
                long due = System.currentTimeMillis() + 3000;
                Kit.call(message, "setDeliverTimeMs", due);
                return due;
            }));
        }
    }

    interface Setting {
        long set(Message message) throws Exception; /* returns when it is due */
    }

    private static void comesWhenDue(Kit kit, Setting setting) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.createTopic(producer, 1);
        Kit.untilNoException(() -> producer.fetchPublishMessageQueues(topic));
        Inbox inbox = kit.collect(topic);
        Kit.send(producer, topic, "", "first");
        inbox.await(1); /* from now on the consumer waits in the broker */
        Message message = new Message(topic, Kit.bytes("later"));
        message.putUserProperty("colour", "blue");
        long due = setting.set(message);
        producer.send(message);
        Kit.send(producer, topic, "", "at once");
        inbox.await(3);
        long came = System.currentTimeMillis();
        Kit.equal("[first, at once, later]", inbox.bodies().toString(), "order");
        Kit.check(came >= due && came < due + 2000, "due at " + due + ", came at " + came);
        MessageExt got = inbox.messages().get(2);
        Kit.equal("blue", got.getUserProperty("colour"), "user property");
        Kit.equal(topic, got.getTopic(), "topic");
    }
}
