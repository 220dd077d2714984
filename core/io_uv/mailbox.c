/*
 * Mailbox: a chain under a mutex. The wake-up happens under the lock, that of a loop only when the
 * loop has looked since the last one, so that (1) a burst costs one wake-up, and (2) a receiver
 * that has seen the message knows that the sender is done with the mailbox and may free it (pthread
 * allows destroying a mutex as soon as the last unlock let somebody else in).
 */
#include "core/io_uv/mailbox.h"

#include "core/base/check.h"
#include "escrow/errors.h"

#include <errno.h>
#include <time.h>

static void lock(pthread_mutex_t *mutex)
{
    CHECK(pthread_mutex_lock(mutex) == 0);
}

static void unlock(pthread_mutex_t *mutex)
{
    CHECK(pthread_mutex_unlock(mutex) == 0);
}

/* A condition variable that measures monotonic time. */
static int cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    int rc;

    if (pthread_condattr_init(&attr) != 0) {
        return ESCROW_ENOMEM;
    }
    CHECK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    rc = pthread_cond_init(cond, &attr) == 0 ? 0 : ESCROW_ENOMEM;
    CHECK(pthread_condattr_destroy(&attr) == 0);
    return rc;
}

/* Under the lock: the whole chain, oldest first; the mailbox then is empty. */
static struct mail *take_all(struct mailbox *m)
{
    struct mail *first = m->head;

    m->head = NULL;
    m->tail = NULL;
    m->count = 0;
    m->is_woken = false;
    return first;
}

static void receive_all(struct mailbox *m, struct mail *mail)
{
    while (mail != NULL) {
        struct mail *next = mail->next;

        mail->next = NULL;
        m->fn(m->arg, mail);
        mail = next;
    }
}

static void on_wake(void *arg)
{
    struct mailbox *m = arg;
    struct mail *mail;

    lock(&m->lock);
    mail = take_all(m);
    unlock(&m->lock);
    receive_all(m, mail);
}

void mailbox_poll(struct mailbox *m)
{
    struct mail *mail;

    DCHECK_THREAD(m->loop);
    lock(&m->lock);
    m->is_polled = true;
    mail = take_all(m);
    unlock(&m->lock);
    receive_all(m, mail);
}

bool mailbox_poll_end(struct mailbox *m)
{
    DCHECK_THREAD(m->loop);
    lock(&m->lock);
    m->is_polled = m->head != NULL;
    unlock(&m->lock);
    return !m->is_polled;
}

int mailbox_init_loop(struct mailbox *m, struct loop *l, size_t limit, mailbox_fn *fn, void *arg)
{
    DCHECK_THREAD(l);
    CHECK(limit > 0);
    *m = (struct mailbox){.loop = l, .limit = limit, .fn = fn, .arg = arg};
    if (pthread_mutex_init(&m->lock, NULL) != 0) {
        return ESCROW_ENOMEM;
    }
    loop_hook_start(l, LOOP_WAKE, &m->hook, on_wake, m);
    return 0;
}

int mailbox_init_thread(struct mailbox *m, size_t limit)
{
    CHECK(limit > 0);
    *m = (struct mailbox){.limit = limit};
    if (pthread_mutex_init(&m->lock, NULL) != 0) {
        return ESCROW_ENOMEM;
    }
    if (cond_init(&m->not_empty) != 0) {
        CHECK(pthread_mutex_destroy(&m->lock) == 0);
        return ESCROW_ENOMEM;
    }
    return 0;
}

void mailbox_fini(struct mailbox *m)
{
    if (m->loop != NULL) {
        loop_hook_stop(m->loop, &m->hook);
    } else {
        CHECK(pthread_cond_destroy(&m->not_empty) == 0);
    }
    CHECK(pthread_mutex_destroy(&m->lock) == 0);
}

static int post(struct mailbox *m, struct mail *mail, bool can_wait)
{
    int rc = 0;

    mail->next = NULL;
    lock(&m->lock);
    if (m->is_closed) {
        rc = ESCROW_ESHUTDOWN;
    } else if (m->count == m->limit) {
        rc = ESCROW_ELIMIT;
    } else {
        if (m->head == NULL) {
            m->head = mail;
        } else {
            m->tail->next = mail;
        }
        m->tail = mail;
        m->count++;
        if (m->loop == NULL) {
            CHECK(pthread_cond_signal(&m->not_empty) == 0); /* free when nobody waits */
        } else if (!m->is_woken && !(can_wait && m->is_polled)) {
            m->is_woken = true;
            loop_wake(m->loop);
        }
    }
    unlock(&m->lock);
    return rc;
}

int mailbox_post(struct mailbox *m, struct mail *mail)
{
    return post(m, mail, false);
}

int mailbox_post_soon(struct mailbox *m, struct mail *mail)
{
    return post(m, mail, true);
}

void mailbox_close(struct mailbox *m)
{
    lock(&m->lock);
    m->is_closed = true;
    if (m->loop == NULL) {
        CHECK(pthread_cond_broadcast(&m->not_empty) == 0);
    }
    unlock(&m->lock);
}

/* Under the lock. */
static struct mail *pop(struct mailbox *m)
{
    struct mail *mail = m->head;

    if (mail != NULL) {
        CHECK(m->count > 0);
        m->head = mail->next;
        if (m->head == NULL) {
            m->tail = NULL;
        }
        m->count--;
        mail->next = NULL;
    }
    return mail;
}

struct mail *mailbox_wait(struct mailbox *m)
{
    struct mail *mail;

    CHECK(m->loop == NULL); /* a loop never waits */
    lock(&m->lock);
    while (m->head == NULL && !m->is_closed) {
        CHECK(pthread_cond_wait(&m->not_empty, &m->lock) == 0);
    }
    mail = pop(m);
    unlock(&m->lock);
    return mail;
}

struct mail *mailbox_take(struct mailbox *m)
{
    struct mail *mail;

    lock(&m->lock);
    mail = pop(m);
    unlock(&m->lock);
    return mail;
}

/*
 * A semaphore, not a condition: who is signalled under a mutex wakes up to wait for that mutex. It
 * may be destroyed as soon as the wait returns (glibc's sem_post does not touch it after that).
 */
int waiter_init(struct waiter *w)
{
    return sem_init(&w->sem, 0, 0) == 0 ? 0 : ESCROW_ENOMEM;
}

void waiter_fini(struct waiter *w)
{
    CHECK(sem_destroy(&w->sem) == 0);
}

void waiter_signal(struct waiter *w)
{
    CHECK(sem_post(&w->sem) == 0);
}

static struct timespec deadline_after(int64_t timeout_ms)
{
    struct timespec ts;

    CHECK(clock_gettime(CLOCK_MONOTONIC, &ts) == 0);
    ts.tv_sec += (time_t)(timeout_ms / 1000);
    ts.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (ts.tv_nsec >= 1000000000) {
        ts.tv_sec++;
        ts.tv_nsec -= 1000000000;
    }
    return ts;
}

int waiter_wait(struct waiter *w, int64_t timeout_ms)
{
    struct timespec deadline = {0};
    int rc;

    if (timeout_ms >= 0) {
        deadline = deadline_after(timeout_ms);
    }
    do {
        rc =
            timeout_ms < 0 ? sem_wait(&w->sem) : sem_clockwait(&w->sem, CLOCK_MONOTONIC, &deadline);
    } while (rc != 0 && errno == EINTR);
    CHECK(rc == 0 || errno == ETIMEDOUT);
    return rc == 0 ? 0 : ESCROW_ETIMEOUT;
}
