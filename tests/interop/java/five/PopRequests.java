package interop;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.AckCallback;
import org.apache.rocketmq.client.consumer.AckResult;
import org.apache.rocketmq.client.consumer.AckStatus;
import org.apache.rocketmq.client.consumer.PopCallback;
import org.apache.rocketmq.client.consumer.PopResult;
import org.apache.rocketmq.client.impl.MQClientAPIImpl;
import org.apache.rocketmq.client.impl.mqclient.DoNothingClientRemotingProcessor;
import org.apache.rocketmq.client.impl.mqclient.MQClientAPIExt;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.remoting.netty.NettyClientConfig;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.RequestCode;
import org.apache.rocketmq.remoting.protocol.ResponseCode;
import org.apache.rocketmq.remoting.protocol.header.AckMessageRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.ChangeInvisibleTimeRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.NotificationRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.PeekMessageRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.PopMessageRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.PopMessageResponseHeader;

/** One topic of one queue, one group, and the requests around popping, by the client's own calls and classes. */
final class PopRequests {
    static final long TIMEOUT_MS = 20_000;
    private final Kit kit;
    private final MQClientAPIImpl api;
    private final String brokerName;
    final DefaultMQProducer producer;
    final String topic;
    final String group;

    PopRequests(Kit kit) throws Exception {
        this.kit = kit;
        producer = kit.producer();
        topic = kit.createTopic(producer, 1);
        group = kit.unique("group");
        api = producer.getDefaultMQProducerImpl().getmQClientFactory().getMQClientAPIImpl();
        brokerName = Kit.untilNoException(() -> producer.fetchPublishMessageQueues(topic)).get(0).getBrokerName();
    }

    static List<String> bodies(List<MessageExt> messages) {
        List<String> bodies = new ArrayList<>();
        messages.forEach(m -> bodies.add(Kit.text(m.getBody())));
        return bodies;
    }

    /** An ordered pop of what is there. */
    List<MessageExt> pop(int count, String attemptId) throws Exception {
        PopMessageRequestHeader header = new PopMessageRequestHeader();
        header.setConsumerGroup(group);
        header.setTopic(topic);
        header.setQueueId(0);
        header.setMaxMsgNums(count);
        header.setInvisibleTime(60_000);
        header.setPollTime(0);
        header.setBornTime(System.currentTimeMillis());
        header.setInitMode(0);
        header.setExpType("TAG");
        header.setExp("*");
        header.setOrder(true);
        header.setAttemptId(attemptId);
        CompletableFuture<PopResult> result = new CompletableFuture<>();
        api.popMessageAsync(brokerName, kit.broker, header, TIMEOUT_MS, new PopCallback() {
            @Override
            public void onSuccess(PopResult popped) {
                result.complete(popped);
            }

            @Override
            public void onException(Throwable e) {
                result.completeExceptionally(e);
            }
        });
        List<MessageExt> found = result.get(TIMEOUT_MS, TimeUnit.MILLISECONDS).getMsgFoundList();
        return found == null ? new ArrayList<>() : found;
    }

    private static AckCallback into(CompletableFuture<AckResult> result) {
        return new AckCallback() {
            @Override
            public void onSuccess(AckResult ack) {
                result.complete(ack);
            }

            @Override
            public void onException(Throwable e) {
                result.completeExceptionally(e);
            }
        };
    }

    void ack(MessageExt message) throws Exception {
        CompletableFuture<AckResult> result = new CompletableFuture<>();
        AckMessageRequestHeader header = new AckMessageRequestHeader();
        header.setConsumerGroup(group);
        header.setTopic(topic);
        header.setQueueId(message.getQueueId());
        header.setOffset(message.getQueueOffset());
        header.setExtraInfo(message.getProperty(MessageConst.PROPERTY_POP_CK));
        api.ackMessageAsync(kit.broker, TIMEOUT_MS, into(result), header);
        Kit.equal(AckStatus.OK, result.get(TIMEOUT_MS, TimeUnit.MILLISECONDS).getStatus(), "status of the acknowledgement");
    }

    /** The message comes again after so many milliseconds. */
    void change(MessageExt message, long invisibleMs) throws Exception {
        CompletableFuture<AckResult> result = new CompletableFuture<>();
        ChangeInvisibleTimeRequestHeader header = new ChangeInvisibleTimeRequestHeader();
        header.setConsumerGroup(group);
        header.setTopic(topic);
        header.setQueueId(message.getQueueId());
        header.setOffset(message.getQueueOffset());
        header.setExtraInfo(message.getProperty(MessageConst.PROPERTY_POP_CK));
        header.setInvisibleTime(invisibleMs);
        api.changeInvisibleTimeAsync(brokerName, kit.broker, header, TIMEOUT_MS, into(result));
        Kit.equal(AckStatus.OK, result.get(TIMEOUT_MS, TimeUnit.MILLISECONDS).getStatus(), "status of the change");
    }

    /** What RocketMQ's proxy asks with. */
    MQClientAPIExt notifier() {
        MQClientAPIExt ext =
            new MQClientAPIExt(new ClientConfig(), new NettyClientConfig(), new DoNothingClientRemotingProcessor(null), null);
        ext.start();
        kit.later(ext::shutdown);
        return ext;
    }

    CompletableFuture<Boolean> hasMessage(MQClientAPIExt notifier, long pollMs, boolean isOrdered) {
        NotificationRequestHeader header = new NotificationRequestHeader();
        header.setConsumerGroup(group);
        header.setTopic(topic);
        header.setQueueId(-1);
        header.setPollTime(pollMs);
        header.setBornTime(System.currentTimeMillis());
        header.setOrder(isOrdered);
        return notifier.notification(kit.broker, header, TIMEOUT_MS);
    }

    /** No class of the client sends it; its headers are there. */
    List<String> peek(int count, long expectedRest) throws Exception {
        PeekMessageRequestHeader header = new PeekMessageRequestHeader();
        header.setConsumerGroup(group);
        header.setTopic(topic);
        header.setQueueId(0);
        header.setMaxMsgNums(count);
        RemotingCommand request = RemotingCommand.createRequestCommand(RequestCode.PEEK_MESSAGE, header);
        RemotingCommand response = api.getRemotingClient().invokeSync(kit.broker, request, TIMEOUT_MS);
        PopMessageResponseHeader answer = (PopMessageResponseHeader) response.decodeCommandCustomHeader(PopMessageResponseHeader.class);
        Kit.equal(expectedRest, answer.getRestNum(), "messages that are there");
        if (response.getCode() == ResponseCode.PULL_NOT_FOUND) {
            return new ArrayList<>();
        }
        Kit.equal(ResponseCode.SUCCESS, response.getCode(), "code of the peek");
        return bodies(MessageDecoder.decodesBatch(ByteBuffer.wrap(response.getBody()), true, true, true));
    }
}
