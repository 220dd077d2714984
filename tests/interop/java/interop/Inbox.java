package interop;

import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.common.message.MessageExt;

/** Collects what a consumer gets. */
class Inbox implements MessageListenerConcurrently {
    private final List<MessageExt> messages = new ArrayList<>();

    @Override
    public ConsumeConcurrentlyStatus consumeMessage(List<MessageExt> got, ConsumeConcurrentlyContext context) {
        got.forEach(this::add);
        return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
    }

    synchronized void add(MessageExt message) {
        messages.add(message);
        notifyAll();
    }

    synchronized List<MessageExt> messages() {
        return new ArrayList<>(messages);
    }

    List<String> bodies() {
        return messages().stream().map(m -> Kit.text(m.getBody())).collect(Collectors.toList());
    }

    List<String> sortedBodies() {
        return bodies().stream().sorted().collect(Collectors.toList());
    }

    /** Waits for so many messages; more are a failure only for whoever looks. */
    synchronized List<MessageExt> await(int count) throws InterruptedException {
        long deadline = System.currentTimeMillis() + Kit.PATIENCE_MS;
        while (messages.size() < count) {
            long left = deadline - System.currentTimeMillis();
            Kit.check(left > 0, "expected " + count + " messages, got " + bodies());
            wait(left);
        }
        return messages();
    }

    MessageExt awaitOne() throws InterruptedException {
        return await(1).get(0);
    }

    /** Exactly these bodies, in any order, and none more shortly after. */
    void expect(List<String> bodies) throws InterruptedException {
        await(bodies.size());
        Thread.sleep(200);
        Kit.equal(bodies.stream().sorted().collect(Collectors.toList()), sortedBodies(), "messages received");
    }
}
