package main

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

// The client looks for routes every 30 seconds: that of a retry topic, which comes into being with its first heartbeat, too.
const patience = 60 * time.Second

// Kit is what every case needs: names of its own, clients that are shut down at its end, checks that say what was wrong.
type Kit struct {
	name    string
	namesrv string
	broker  string
	user    string // whose keys sign the requests; "" signs none
	secret  string
	open    []func()
}

var count int32

// failure is thrown by the checks and caught by the runner.
type failure string

func check(isTrue bool, format string, args ...interface{}) {
	if !isTrue {
		panic(failure(fmt.Sprintf(format, args...)))
	}
}

func noError(err error, what string) {
	check(err == nil, "%s: %v", what, err)
}

func equal(expected, actual interface{}, what string) {
	check(fmt.Sprint(expected) == fmt.Sprint(actual), "%s: expected %v, got %v", what, expected, actual)
}

// eventually waits until the value is there.
func eventually(expected interface{}, actual func() interface{}, what string) {
	deadline := time.Now().Add(patience)
	for fmt.Sprint(actual()) != fmt.Sprint(expected) && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
	}
	equal(expected, actual(), what)
}

func (k *Kit) close() {
	for i := len(k.open) - 1; i >= 0; i-- {
		k.open[i]()
	}
}

func (k *Kit) later(f func()) { k.open = append(k.open, f) }

// unique is a name for a topic or a group that nobody else uses.
func (k *Kit) unique(what string) string {
	return fmt.Sprintf("%s-%s-%d", k.name, what, atomic.AddInt32(&count, 1))
}

func (k *Kit) servers() primitive.NsResolver {
	return primitive.NewPassthroughResolver([]string{k.namesrv})
}

func (k *Kit) producerOptions(group string) []producer.Option {
	all := []producer.Option{producer.WithNsResolver(k.servers()), producer.WithGroupName(group), producer.WithInstanceName(k.unique("instance"))}
	if k.user != "" {
		all = append(all, producer.WithCredentials(k.credentials()))
	}
	return all
}

func (k *Kit) producer(options ...producer.Option) rocketmq.Producer {
	all := append(k.producerOptions(k.unique("producer")), options...)
	p, err := rocketmq.NewProducer(all...)
	noError(err, "producer")
	noError(p.Start(), "start of the producer")
	k.later(func() { _ = p.Shutdown() })
	return p
}

func (k *Kit) createTopic(queues int) string {
	topic := k.unique("topic")
	noError(k.tryToCreateTopic(topic, queues), "create topic")
	return topic
}

func (k *Kit) tryToCreateTopic(topic string, queues int) error {
	return k.admin().CreateTopic(context.Background(), admin.WithTopicCreate(topic), admin.WithBrokerAddrCreate(k.broker),
		admin.WithReadQueueNums(queues), admin.WithWriteQueueNums(queues))
}

func (k *Kit) send(p rocketmq.Producer, topic, body string) *primitive.SendResult {
	result, err := p.SendSync(context.Background(), primitive.NewMessage(topic, []byte(body)))
	noError(err, "send")
	equal(primitive.SendOK, result.Status, "status of the send")
	return result
}

func (k *Kit) sendMany(p rocketmq.Producer, topic string, count int) {
	for i := 0; i < count; i++ {
		k.send(p, topic, fmt.Sprintf("m%d", i))
	}
}

// numbered is m0 to m(count-1), sorted.
func numbered(count int) []string {
	var all []string
	for i := 0; i < count; i++ {
		all = append(all, fmt.Sprintf("m%d", i))
	}
	sort.Strings(all)
	return all
}

// Inbox collects what a consumer gets.
type Inbox struct {
	mutex    sync.Mutex
	messages []*primitive.MessageExt
}

func (in *Inbox) add(m *primitive.MessageExt) {
	in.mutex.Lock()
	defer in.mutex.Unlock()
	in.messages = append(in.messages, m)
}

func (in *Inbox) all() []*primitive.MessageExt {
	in.mutex.Lock()
	defer in.mutex.Unlock()
	return append([]*primitive.MessageExt{}, in.messages...)
}

func (in *Inbox) bodies() []string {
	var bodies []string
	for _, m := range in.all() {
		bodies = append(bodies, string(m.Body))
	}
	return bodies
}

func (in *Inbox) sorted() []string {
	bodies := in.bodies()
	sort.Strings(bodies)
	return bodies
}

func (in *Inbox) await(count int) []*primitive.MessageExt {
	deadline := time.Now().Add(patience)
	for len(in.all()) < count {
		check(time.Now().Before(deadline), "expected %d messages, got %v", count, in.bodies())
		time.Sleep(20 * time.Millisecond)
	}
	return in.all()
}

// expect waits for exactly these bodies, in any order, and none more shortly after.
func (in *Inbox) expect(bodies []string) {
	in.await(len(bodies))
	time.Sleep(200 * time.Millisecond)
	equal(bodies, in.sorted(), "messages received")
}

type listener func(context.Context, ...*primitive.MessageExt) (consumer.ConsumeResult, error)

func (in *Inbox) listener() listener {
	return func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range messages {
			in.add(m)
		}
		return consumer.ConsumeSuccess, nil
	}
}

// consume starts a consumer of one topic, which begins with the first message.
func (k *Kit) consume(group, topic string, selector consumer.MessageSelector, f listener, options ...consumer.Option) rocketmq.PushConsumer {
	all := append([]consumer.Option{consumer.WithNsResolver(k.servers()), consumer.WithGroupName(group),
		consumer.WithInstance(k.unique("instance")), consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset)}, options...)
	if k.user != "" {
		all = append(all, consumer.WithCredentials(k.credentials()))
	}
	c, err := rocketmq.NewPushConsumer(all...)
	noError(err, "consumer")
	noError(c.Subscribe(topic, selector, f), "subscribe")
	noError(c.Start(), "start of the consumer")
	k.later(func() { _ = c.Shutdown() })
	return c
}

func (k *Kit) collect(topic string) *Inbox {
	inbox := &Inbox{}
	k.consume(k.unique("group"), topic, consumer.MessageSelector{}, inbox.listener())
	return inbox
}
