package main

import (
	"context"
	"fmt"
	"math/rand"
	"strings"
	"time"

	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

func chosenQueue(k *Kit) {
	topic := k.createTopic(4)
	p := k.producer(producer.WithQueueSelector(producer.NewManualQueueSelector()))
	for i := 0; i < 8; i++ {
		m := primitive.NewMessage(topic, []byte(fmt.Sprintf("m%d", i)))
		m.Queue = &primitive.MessageQueue{Topic: topic, BrokerName: k.brokerName(topic), QueueId: i % 4}
		result, err := p.SendSync(context.Background(), m)
		noError(err, "send")
		equal(i%4, result.MessageQueue.QueueId, "queue")
		equal(i/4, result.QueueOffset, "queue offset")
	}
	inbox := k.collect(topic)
	inbox.expect(numbered(8))
	for _, m := range inbox.all() {
		var n int
		_, _ = fmt.Sscanf(string(m.Body), "m%d", &n)
		equal(n%4, m.Queue.QueueId, "queue of "+string(m.Body))
	}
}

func (k *Kit) admin() admin.Admin {
	options := []admin.AdminOption{admin.WithResolver(k.servers())}
	if k.user != "" {
		options = append(options, admin.WithCredentials(k.credentials()))
	}
	a, err := admin.NewAdmin(options...)
	noError(err, "admin")
	if k.user != "" {
		_, _ = a.GetAllSubscriptionGroup(context.Background(), k.broker, patience) // only from then on it signs
	}
	k.later(func() { _ = a.Close() })
	return a
}

func (k *Kit) brokerName(topic string) string {
	queues, err := k.admin().FetchPublishMessageQueues(context.Background(), topic)
	noError(err, "queues of "+topic)
	return queues[0].BrokerName
}

func createTopic(k *Kit) {
	topic := k.createTopic(7)
	queues, err := k.admin().FetchPublishMessageQueues(context.Background(), topic)
	noError(err, "queues")
	equal(7, len(queues), "number of queues")
	all, err := k.admin().FetchAllTopicList(context.Background())
	noError(err, "topics")
	check(strings.Contains(" "+strings.Join(all.TopicList, " ")+" ", " "+topic+" "), "it is not among the topics")
}

func sizes(k *Kit) {
	topic := k.createTopic(1)
	p := k.producer(producer.WithCompressMsgBodyOverHowmuch(1 << 30))
	large := make([]byte, 4<<20)
	_, _ = rand.New(rand.NewSource(1)).Read(large)
	_, err := p.SendSync(context.Background(), primitive.NewMessage(topic, nil))
	check(err != nil, "a message without a body was taken")
	k.send(p, topic, string(large))
	check(string(large) == string(k.collect(topic).await(1)[0].Body), "the body is another")
	_, err = p.SendSync(context.Background(), primitive.NewMessage(topic, append(large, 'x')))
	check(err != nil && strings.Contains(err.Error(), "CODE: 13"), "a body of more than 4 MiB: %v", err)
}

func refusedNames(k *Kit) {
	p := k.producer()
	for _, topic := range []string{"SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC"} {
		_, err := p.SendSync(context.Background(), primitive.NewMessage(topic, []byte("x")))
		check(err != nil, "a message to %s was taken", topic)
	}
}

// comesLater sends a message that prepare puts off: it comes so much later, and after one that was sent after it.
func comesLater(k *Kit, delay time.Duration, prepare func(*primitive.Message)) {
	topic := k.createTopic(1)
	p := k.producer()
	k.send(p, topic, "first")
	inbox := k.collect(topic)
	inbox.await(1)
	m := primitive.NewMessage(topic, []byte("later"))
	m.WithProperty("colour", "blue")
	sent := time.Now()
	prepare(m)
	_, err := p.SendSync(context.Background(), m)
	noError(err, "send")
	k.send(p, topic, "at once")
	got := inbox.await(3)
	took := time.Since(sent)
	equal([]string{"first", "at once", "later"}, inbox.bodies(), "order")
	check(took >= delay, "it came after %v", took)
	equal("blue", got[2].GetProperty("colour"), "user property")
}

func delayed(k *Kit) {
	comesLater(k, 5*time.Second, func(m *primitive.Message) { m.WithDelayTimeLevel(2) })
}

// The client has no methods for these: the properties are what a broker of RocketMQ 5 looks at.
func timedDelay(k *Kit) {
	comesLater(k, 3*time.Second, func(m *primitive.Message) { m.WithProperty("TIMER_DELAY_SEC", "3") })
}

func timedDeliverAt(k *Kit) {
	comesLater(k, 3*time.Second, func(m *primitive.Message) {
		m.WithProperty("TIMER_DELIVER_MS", fmt.Sprint(time.Now().Add(3*time.Second).UnixMilli()))
	})
}

func requestReply(k *Kit) {
	topic := k.createTopic(4)
	replier := k.producer()
	k.consume(k.unique("group"), topic, consumer.MessageSelector{}, func(_ context.Context, ms ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range ms {
			reply, err := consumer.CreateReplyMessage(m, nil)
			if err != nil {
				fmt.Printf("no reply: %v\n", err)
				continue
			}
			reply.Body = []byte("re: " + string(m.Body)) // the client takes what it is given for properties
			deadline := time.Now().Add(patience)         // the broker knows who asked with the asker's next heartbeat
			for _, err = replier.SendSync(context.Background(), reply); err != nil && time.Now().Before(deadline); {
				time.Sleep(100 * time.Millisecond)
				_, err = replier.SendSync(context.Background(), reply)
			}
		}
		return consumer.ConsumeSuccess, nil
	})
	p := k.producer()
	for i := 0; i < 5; i++ {
		question := fmt.Sprintf("q%d", i)
		reply, err := p.Request(context.Background(), patience, primitive.NewMessage(topic, []byte(question)))
		noError(err, "request")
		equal("re: "+question, string(reply.Body), "reply")
	}
}

// messageTrace: what is sent and consumed leaves a trace. The traces of a process come from one client of their own.
func messageTrace(k *Kit) {
	trace := func() *primitive.TraceConfig {
		return &primitive.TraceConfig{Access: primitive.Local, Resolver: k.servers(), GroupName: k.unique("tracer")}
	}
	topic := k.createTopic(1)
	k.send(k.producer(), "RMQ_SYS_TRACE_TOPIC", "so that the topic is there")
	traces := k.collect("RMQ_SYS_TRACE_TOPIC")
	p := k.producer(producer.WithTrace(trace()))
	inbox := &Inbox{}
	k.consume(k.unique("group"), topic, consumer.MessageSelector{}, inbox.listener(), consumer.WithTrace(trace()))
	id := k.send(p, topic, "traced").MsgID
	equal(id, inbox.await(1)[0].MsgId, "message id")
	for _, what := range []string{"Pub", "SubBefore", "SubAfter"} {
		eventually(true, func() interface{} {
			for _, m := range traces.all() {
				if strings.Contains(string(m.Body), what) && strings.Contains(string(m.Body), id) {
					return strings.Contains(m.GetKeys(), id)
				}
			}
			return false
		}, "a trace of "+what)
	}
}
