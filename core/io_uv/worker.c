/*
 * Worker: the loop posts jobs to `in`, the thread runs each and posts it to `out`, the loop calls
 * done.
 *
 * `in_flight` counts from submit to done and is bounded by jobs_max, which is the limit of both
 * mailboxes: so the thread's post to `out` cannot fail.
 */
#include "core/io_uv/worker.h"

#include "core/base/check.h"
#include "escrow/errors.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static struct job *job_of(struct mail *mail)
{
    return LIST_ENTRY(mail, struct job, mail);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct mail *mail;

    (void)pthread_setname_np(pthread_self(), w->name); /* only for people who look */
    while ((mail = mailbox_wait(&w->in)) != NULL) {
        struct job *job = job_of(mail);

        job->run(job);
        CHECK(mailbox_post(&w->out, &job->mail) == 0);
    }
    return NULL;
}

static void job_finish(struct worker *w, struct job *job)
{
    CHECK(w->in_flight > 0);
    w->in_flight--;
    w->is_delivering = true;
    job->done(job);
    w->is_delivering = false;
}

static void on_done(void *arg, struct mail *mail)
{
    job_finish(arg, job_of(mail));
}

/* Signals are the loop's: the thread is born with all of them blocked. */
static int thread_create(struct worker *w)
{
    sigset_t all;
    sigset_t before;
    int rc;

    CHECK(sigfillset(&all) == 0);
    CHECK(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    rc = pthread_create(&w->thread, NULL, worker_main, w);
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    return rc == 0 ? 0 : ESCROW_ELIMIT;
}

int worker_start(struct worker *w, struct loop *l, const char *name, size_t jobs_max)
{
    int rc;

    DCHECK_THREAD(l);
    CHECK(strlen(name) < sizeof w->name);
    *w = (struct worker){.loop = l, .jobs_max = jobs_max};
    (void)snprintf(w->name, sizeof w->name, "%s", name); /* fits: checked above */
    rc = mailbox_init_thread(&w->in, jobs_max);
    if (rc != 0) {
        return rc;
    }
    rc = mailbox_init_loop(&w->out, l, jobs_max, on_done, w);
    if (rc != 0) {
        mailbox_fini(&w->in);
        return rc;
    }
    rc = thread_create(w);
    if (rc != 0) {
        mailbox_fini(&w->out);
        mailbox_fini(&w->in);
        return rc;
    }
    w->is_running = true;
    return 0;
}

void worker_stop(struct worker *w)
{
    struct mail *mail;

    if (!w->is_running) {
        return;
    }
    DCHECK_THREAD(w->loop);
    CHECK(
        /* not inside done: the chain being delivered is not in the mailbox any more */
        !w->is_delivering);
    w->is_running = false; /* done may not submit from here */
    mailbox_close(&w->in);
    CHECK(pthread_join(w->thread, NULL) == 0);
    while ((mail = mailbox_take(&w->out)) != NULL) {
        job_finish(w, job_of(mail));
    }
    CHECK(w->in_flight == 0);
    mailbox_fini(&w->out);
    mailbox_fini(&w->in);
}

int worker_submit(struct worker *w, struct job *job)
{
    DCHECK_THREAD(w->loop);
    CHECK(job->run != NULL && job->done != NULL);
    if (!w->is_running) {
        return ESCROW_ESHUTDOWN;
    }
    if (w->in_flight == w->jobs_max) {
        return ESCROW_ELIMIT;
    }
    w->in_flight++;
    CHECK(mailbox_post(&w->in, &job->mail) == 0); /* count <= in_flight <= limit, and not closed */
    return 0;
}

bool worker_try_inline(struct worker *w, struct job *job)
{
    DCHECK_THREAD(w->loop);
    if (!w->is_running || w->in_flight > 0 || w->is_delivering) {
        return false; /* inside done it would recurse */
    }
    w->in_flight++; /* a job submitted by run or done comes after this one */
    job->run(job);
    job_finish(w, job);
    return true;
}
