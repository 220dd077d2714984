package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

type oneCase struct {
	name string
	run  func(*Kit)
}

var cases = []oneCase{
	{"normal", normal},
	{"async", async},
	{"one-way", oneWay},
	{"batch", batch},
	{"compressed-zlib", compressed},
	{"chosen-queue", chosenQueue},
	{"empty-and-4-MiB-bodies", sizes},
	{"refused-names", refusedNames},
	{"create-topic", createTopic},
	{"delayed", delayed},
	{"timed-delay", timedDelay},
	{"timed-deliver-at", timedDeliverAt},
	{"request-reply", requestReply},
	{"message-trace", messageTrace},
	{"ordered", ordered},
	{"orderly-suspend", orderlySuspend},
	{"orderly-takeover", orderlyTakeover},
	{"tag-filter", tagFilter},
	{"sql-filter", sqlFilter},
	{"long-polling", longPolling},
	{"from-last-offset", fromLastOffset},
	{"reset-offset", resetOffset},
	{"retry", retry},
	{"dead-letter", deadLetter},
	{"broadcast", broadcast},
	{"clustering", clustering},
	{"rebalance", rebalance},
	{"rebalance-after-kill", rebalanceAfterKill},
	{"offsets-are-kept", offsetsAreKept},
	{"pull", pull},
	{"transaction-commit", txnCommit},
	{"transaction-rollback", txnRollback},
	{"transaction-unknown-then-commit", func(k *Kit) { txnUnknown(k, primitive.CommitMessageState) }},
	{"transaction-unknown-then-rollback", func(k *Kit) { txnUnknown(k, primitive.RollbackMessageState) }},
	{"transaction-unknown-twice", txnUnknownTwice},
	{"transaction-second-instance", txnSecondInstance},
	{"access-keys", accessKeys},
	{"access-keys-refused", accessKeysRefused},
	{"access-keys-permissions", accessKeysPermissions},
}

func normal(k *Kit) {
	topic := k.unique("topic")
	p := k.producer()
	m := primitive.NewMessage(topic, []byte("héllo 订单"))
	m.WithTag("TagA").WithKeys([]string{"key1", "key2"}).WithProperty("colour", "dünkel")
	result, err := p.SendSync(context.Background(), m)
	noError(err, "send")
	equal(primitive.SendOK, result.Status, "status")
	equal(32, len(result.OffsetMsgID), "length of the offset message id")
	got := k.collect(topic).await(1)[0]
	equal("héllo 订单", string(got.Body), "body")
	equal("TagA", got.GetTags(), "tags")
	equal("key1 key2", got.GetKeys(), "keys")
	equal("dünkel", got.GetProperty("colour"), "user property")
	equal(result.MsgID, got.MsgId, "message id")
	equal(result.QueueOffset, got.QueueOffset, "queue offset")
	equal(k.broker, got.StoreHost, "store host")
	equal("127.0.0.1", strings.Split(got.BornHost, ":")[0], "born host")
}

func async(k *Kit) {
	topic := k.unique("topic")
	p := k.producer()
	k.send(p, topic, "m0")
	var wait sync.WaitGroup
	var failed int32
	for i := 1; i < 50; i++ {
		wait.Add(1)
		noError(p.SendAsync(context.Background(), func(_ context.Context, r *primitive.SendResult, err error) {
			if err != nil || r.Status != primitive.SendOK {
				atomic.AddInt32(&failed, 1)
			}
			wait.Done()
		}, primitive.NewMessage(topic, []byte(fmt.Sprintf("m%d", i)))), "send")
	}
	wait.Wait()
	equal(0, failed, "failed sends")
	k.collect(topic).expect(numbered(50))
}

func oneWay(k *Kit) {
	topic := k.unique("topic")
	p := k.producer()
	k.send(p, topic, "m0") /* the consumer does not start without a route */
	for i := 1; i < 20; i++ {
		noError(p.SendOneWay(context.Background(), primitive.NewMessage(topic, []byte(fmt.Sprintf("m%d", i)))), "send")
	}
	k.collect(topic).expect(numbered(20))
}

func batch(k *Kit) {
	topic := k.unique("topic")
	var all []*primitive.Message
	for i := 0; i < 60; i++ {
		m := primitive.NewMessage(topic, []byte(fmt.Sprintf("m%d", i)))
		all = append(all, m.WithTag("T").WithKeys([]string{fmt.Sprintf("k%d", i)}))
	}
	result, err := k.producer().SendSync(context.Background(), all...)
	noError(err, "send")
	equal(primitive.SendOK, result.Status, "status")
	ids := strings.Split(result.OffsetMsgID, ",")
	equal(60, len(ids), "number of offset message ids")
	inbox := k.collect(topic)
	inbox.expect(numbered(60))
	for _, m := range inbox.all() {
		equal(string(m.Body[1:]), m.QueueOffset, "queue offset")
		equal("k"+string(m.Body[1:]), m.GetKeys(), "keys")
		equal(ids[m.QueueOffset], m.OffsetMsgId, "offset message id")
	}
}

func compressed(k *Kit) {
	topic := k.unique("topic")
	body := strings.Repeat("x", 100000)
	k.send(k.producer(), topic, body)
	got := k.collect(topic).await(1)[0]
	check(body == string(got.Body), "the body is another")
	check(got.StoreSize < 2000, "stored with %d bytes", got.StoreSize)
}

func ordered(k *Kit) {
	topic := k.createTopic(4)
	p := k.producer(producer.WithQueueSelector(producer.NewHashQueueSelector()))
	for i := 0; i < 100; i++ {
		m := primitive.NewMessage(topic, []byte(fmt.Sprintf("m%d", i)))
		m.WithShardingKey(fmt.Sprintf("order%d", i%10))
		_, err := p.SendSync(context.Background(), m)
		noError(err, "send")
	}
	inbox := &Inbox{}
	k.consume(k.unique("group"), topic, consumer.MessageSelector{}, inbox.listener(), consumer.WithConsumerOrder(true))
	inbox.expect(numbered(100))
	last := map[string]int{}
	for _, m := range inbox.all() {
		var n int
		_, _ = fmt.Sscanf(string(m.Body), "m%d", &n)
		check(n >= last[m.GetShardingKey()], "order of %s", m.GetShardingKey())
		last[m.GetShardingKey()] = n
	}
}

func tagFilter(k *Kit) {
	topic := k.unique("topic")
	p := k.producer()
	for i := 0; i < 40; i++ {
		tag := string(rune('A' + i%4))
		_, err := p.SendSync(context.Background(), primitive.NewMessage(topic, []byte(tag)).WithTag("Tag"+tag))
		noError(err, "send")
	}
	inbox := &Inbox{}
	k.consume(k.unique("group"), topic, consumer.MessageSelector{Type: consumer.TAG, Expression: "TagA || TagC"}, inbox.listener())
	inbox.await(20)
	time.Sleep(200 * time.Millisecond)
	equal(20, len(inbox.all()), "number of messages")
	check(!strings.ContainsAny(strings.Join(inbox.bodies(), ""), "BD"), "others came: %v", inbox.bodies())
}

func retry(k *Kit) {
	topic := k.unique("topic")
	k.send(k.producer(), topic, "again")
	inbox := &Inbox{}
	k.consume(k.unique("group"), topic, consumer.MessageSelector{}, func(ctx context.Context, ms ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		inbox.add(ms[0])
		if c, ok := primitive.GetConcurrentlyCtx(ctx); ok {
			c.DelayLevelWhenNextConsume = 1
		}
		if ms[0].ReconsumeTimes < 2 {
			return consumer.ConsumeRetryLater, nil
		}
		return consumer.ConsumeSuccess, nil
	})
	for i, m := range inbox.await(3) {
		equal("again", string(m.Body), "body")
		equal(i, m.ReconsumeTimes, "reconsume times")
		equal(topic, m.Topic, "topic")
	}
}

func deadLetter(k *Kit) {
	topic := k.unique("topic")
	group := k.unique("group")
	k.send(k.producer(), topic, "dead")
	inbox := &Inbox{}
	k.consume(group, topic, consumer.MessageSelector{}, func(ctx context.Context, ms ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		inbox.add(ms[0])
		if c, ok := primitive.GetConcurrentlyCtx(ctx); ok {
			c.DelayLevelWhenNextConsume = 1
		}
		return consumer.ConsumeRetryLater, nil
	}, consumer.WithMaxReconsumeTimes(1))
	inbox.await(2)
	time.Sleep(500 * time.Millisecond) /* until the last one is sent back: the topic comes into being with it */
	equal("dead", string(k.collect("%DLQ%" + group).await(1)[0].Body), "body")
}

func broadcast(k *Kit) {
	topic := k.unique("topic")
	group := k.unique("group")
	p := k.producer()
	k.send(p, topic, "m0")
	var inboxes []*Inbox
	for i := 0; i < 2; i++ {
		inbox := &Inbox{}
		k.consume(group, topic, consumer.MessageSelector{}, inbox.listener(), consumer.WithConsumerModel(consumer.BroadCasting))
		inboxes = append(inboxes, inbox)
	}
	for i := 1; i < 10; i++ {
		k.send(p, topic, fmt.Sprintf("m%d", i))
	}
	for _, inbox := range inboxes {
		inbox.expect(numbered(10))
	}
}

func clustering(k *Kit) {
	topic := k.createTopic(4)
	group := k.unique("group")
	one, two := &Inbox{}, &Inbox{}
	k.consume(group, topic, consumer.MessageSelector{}, one.listener())
	k.consume(group, topic, consumer.MessageSelector{}, two.listener())
	p := k.producer()
	deadline := time.Now().Add(patience)
	for len(one.all()) == 0 || len(two.all()) == 0 { /* until both have queues */
		check(time.Now().Before(deadline), "the queues are not shared")
		k.sendMany(p, topic, 4)
		time.Sleep(200 * time.Millisecond)
	}
	time.Sleep(time.Second) /* while queues change hands a message may come twice */
	for i := 0; i < 40; i++ {
		k.send(p, topic, fmt.Sprintf("n%d", i))
	}
	ofThese := func(in *Inbox) int { return strings.Count(strings.Join(in.bodies(), ""), "n") }
	eventually(40, func() interface{} { return ofThese(one) + ofThese(two) }, "messages")
	check(ofThese(one) > 0 && ofThese(two) > 0, "one got %d, the other %d", ofThese(one), ofThese(two))
}

func rebalance(k *Kit) {
	topic := k.createTopic(4)
	group := k.unique("group")
	one, two := &Inbox{}, &Inbox{}
	k.consume(group, topic, consumer.MessageSelector{}, one.listener())
	second := k.consume(group, topic, consumer.MessageSelector{}, two.listener())
	p := k.producer()
	deadline := time.Now().Add(patience)
	for len(two.all()) == 0 {
		check(time.Now().Before(deadline), "the second got no queue")
		k.sendMany(p, topic, 4)
		time.Sleep(200 * time.Millisecond)
	}
	noError(second.Shutdown(), "shutdown of the second")
	for i := 0; i < 40; i++ {
		k.send(p, topic, fmt.Sprintf("after%d", i))
	}
	eventually(40, func() interface{} { return strings.Count(strings.Join(one.bodies(), " "), "after") }, "messages of the last one")
}

// other is this program as another process, which can be killed; its lines beginning with word go to said.
func (k *Kit) other(word string, args ...string) (process *exec.Cmd, said chan string) {
	process = exec.Command(os.Args[0], args...)
	output, err := process.StdoutPipe()
	noError(err, "pipe")
	noError(process.Start(), "start of the other process")
	k.later(func() { _ = process.Process.Kill(); _ = process.Wait() })
	said = make(chan string, 10000)
	go func() {
		defer close(said)
		for lines := bufio.NewScanner(output); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), word+" ") {
				said <- lines.Text()
			}
		}
	}()
	return process, said
}

// A member that is killed says nothing; the broker sees its connection break, and its queues go to who is left.
func rebalanceAfterKill(k *Kit) {
	topic := k.createTopic(4)
	group := k.unique("group")
	survivor := &Inbox{}
	k.consume(group, topic, consumer.MessageSelector{}, survivor.listener())
	process, said := k.other("got", "member", k.namesrv, group, topic)
	p := k.producer()
	deadline := time.Now().Add(patience)
	for len(said) == 0 {
		check(time.Now().Before(deadline), "the other one got no queue")
		k.sendMany(p, topic, 4)
		time.Sleep(200 * time.Millisecond)
	}
	noError(process.Process.Kill(), "kill")
	_ = process.Wait()
	for i := 0; i < 40; i++ {
		k.send(p, topic, fmt.Sprintf("after%d", i))
	}
	eventually(40, func() interface{} {
		different := map[string]bool{}
		for _, body := range survivor.bodies() {
			if strings.HasPrefix(body, "after") {
				different[body] = true
			}
		}
		return len(different)
	}, "messages of the survivor")
}

// member consumes until it is killed.
func member(namesrv, group, topic string) {
	k := &Kit{name: "member", namesrv: namesrv}
	k.consume(group, topic, consumer.MessageSelector{}, func(_ context.Context, ms ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range ms {
			fmt.Printf("got %s\n", m.Body)
		}
		return consumer.ConsumeSuccess, nil
	})
	time.Sleep(time.Hour)
}

func offsetsAreKept(k *Kit) {
	topic := k.unique("topic")
	group := k.unique("group")
	p := k.producer()
	k.sendMany(p, topic, 10)
	inbox := &Inbox{}
	c := k.consume(group, topic, consumer.MessageSelector{}, inbox.listener())
	inbox.expect(numbered(10))
	noError(c.Shutdown(), "shutdown")
	k.send(p, topic, "later")
	again := &Inbox{}
	k.consume(group, topic, consumer.MessageSelector{}, again.listener())
	again.expect([]string{"later"})
}

func pull(k *Kit) {
	topic := k.createTopic(1)
	p := k.producer()
	k.sendMany(p, topic, 10)
	c, err := rocketmq.NewPullConsumer(consumer.WithGroupName(k.unique("group")), consumer.WithNsResolver(k.servers()),
		consumer.WithInstance(k.unique("instance")), consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
	noError(err, "pull consumer")
	noError(c.Subscribe(topic, consumer.MessageSelector{}), "subscribe")
	noError(c.Start(), "start")
	k.later(func() { _ = c.Shutdown() })
	var bodies []string
	deadline := time.Now().Add(patience)
	for len(bodies) < 10 && time.Now().Before(deadline) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		result, err := c.Pull(ctx, 32)
		cancel()
		if err != nil {
			continue
		}
		for _, m := range result.GetMessageExts() {
			bodies = append(bodies, string(m.Body))
		}
	}
	sort.Strings(bodies)
	equal(numbered(10), bodies, "messages pulled")
}

type txnListener struct {
	local, checked primitive.LocalTransactionState
	checks         int32
	unknown        int32 // so many questions are answered with "unknown" before checked is
	asked          atomic.Value
}

func (l *txnListener) ExecuteLocalTransaction(*primitive.Message) primitive.LocalTransactionState {
	return l.local
}

func (l *txnListener) CheckLocalTransaction(m *primitive.MessageExt) primitive.LocalTransactionState {
	l.asked.Store(m)
	if atomic.AddInt32(&l.checks, 1) <= l.unknown {
		return primitive.UnknowState
	}
	return l.checked
}

func (k *Kit) txnProducer(group string, l *txnListener) rocketmq.TransactionProducer {
	p, err := rocketmq.NewTransactionProducer(l, k.producerOptions(group)...)
	noError(err, "transaction producer")
	noError(p.Start(), "start of the producer")
	k.later(func() { _ = p.Shutdown() })
	return p
}

func (k *Kit) sendTxn(p rocketmq.TransactionProducer, topic, body string) *primitive.TransactionSendResult {
	m := primitive.NewMessage(topic, []byte(body))
	m.WithTag("TagA").WithProperty("colour", "blue")
	result, err := p.SendMessageInTransaction(context.Background(), m)
	noError(err, "send")
	return result
}

func txnCommit(k *Kit) {
	topic := k.unique("topic")
	result := k.sendTxn(k.txnProducer(k.unique("producer"), &txnListener{local: primitive.CommitMessageState}), topic, "committed")
	got := k.collect(topic).await(1)[0]
	equal("committed", string(got.Body), "body")
	equal("blue", got.GetProperty("colour"), "user property")
	equal(result.MsgID, got.MsgId, "message id")
}

func txnRollback(k *Kit) {
	topic := k.unique("topic")
	l := &txnListener{local: primitive.RollbackMessageState, checked: primitive.CommitMessageState}
	k.sendTxn(k.txnProducer(k.unique("producer"), l), topic, "rolled back")
	inbox := k.collect(topic)
	time.Sleep(2500 * time.Millisecond)
	k.send(k.producer(), topic, "after")
	inbox.expect([]string{"after"})
	equal(0, atomic.LoadInt32(&l.checks), "checks")
}

func txnUnknown(k *Kit, answer primitive.LocalTransactionState) {
	topic := k.unique("topic")
	l := &txnListener{local: primitive.UnknowState, checked: answer}
	k.sendTxn(k.txnProducer(k.unique("producer"), l), topic, "unknown")
	inbox := k.collect(topic)
	eventually(1, func() interface{} { return atomic.LoadInt32(&l.checks) }, "checks")
	asked := l.asked.Load().(*primitive.MessageExt)
	equal("unknown", string(asked.Body), "body of the question")
	equal(topic, asked.Topic, "topic of the question")
	equal("blue", asked.GetProperty("colour"), "user property of the question")
	time.Sleep(2500 * time.Millisecond)
	equal(1, atomic.LoadInt32(&l.checks), "checks after the answer")
	k.send(k.producer(), topic, "after")
	if answer == primitive.CommitMessageState {
		inbox.expect([]string{"after", "unknown"})
	} else {
		inbox.expect([]string{"after"})
	}
}

func txnUnknownTwice(k *Kit) {
	topic := k.unique("topic")
	l := &txnListener{local: primitive.UnknowState, checked: primitive.CommitMessageState, unknown: 2}
	k.sendTxn(k.txnProducer(k.unique("producer"), l), topic, "patience")
	k.collect(topic).expect([]string{"patience"})
	equal(3, atomic.LoadInt32(&l.checks), "checks")
}

// The instance that sent the half is killed; another of its group is asked.
func txnSecondInstance(k *Kit) {
	topic := k.unique("topic")
	group := k.unique("producer")
	first, said := k.other("half", "silent-producer", k.namesrv, group, topic)
	_, hasSent := <-said
	check(hasSent, "the first instance sent nothing")
	noError(first.Process.Kill(), "kill")
	_ = first.Wait()
	l := &txnListener{local: primitive.UnknowState, checked: primitive.CommitMessageState}
	second := k.txnProducer(group, l)
	k.sendTxn(second, k.unique("topic"), "so that it knows a broker")
	equal("orphan", string(k.collect(topic).await(1)[0].Body), "body")
}

// silentProducer sends a half, decides nothing, waits to be killed.
func silentProducer(namesrv, group, topic string) {
	k := &Kit{name: "silent", namesrv: namesrv}
	p := k.txnProducer(group, &txnListener{local: primitive.UnknowState, checked: primitive.UnknowState})
	k.sendTxn(p, topic, "orphan")
	fmt.Println("half sent")
	time.Sleep(time.Hour)
}
