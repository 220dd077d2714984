package interop;

import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Request and reply. */
final class Replies {
    private Replies() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("request-reply", Replies::requestReply);
    }

    private static void requestReply(Kit kit) throws Exception {
        DefaultMQProducer replier = kit.producer();
        String topic = kit.unique("topic");
        Kit.send(replier, topic, "other", "not a request");
        DefaultMQPushConsumer consumer = kit.consumer(kit.unique("group"), topic, "request");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            try {
                MessageExt request = messages.get(0);
                replier.send(MessageUtil.createReplyMessage(request, Kit.bytes("re: " + Kit.text(request.getBody()))));
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            } catch (Exception e) {
                e.printStackTrace();
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            }
        });
        consumer.start();
        DefaultMQProducer producer = kit.producer(); /* sends nothing before: it makes itself known with its first request */
        for (int i = 0; i < 5; i++) {
            Message reply = producer.request(new Message(topic, "request", Kit.bytes("q" + i)), 10_000);
            kit.note("reply", (MessageExt) reply);
            Kit.equal("re: q" + i, Kit.text(reply.getBody()), "reply");
        }
    }
}
