/* A callback that is left by longjmp(), which is forbidden: the worker it came from stays closed, and the job can be ended. */
#include <setjmp.h>

#include "check.h"

enum { LIMIT_MS = 20000 };

static jmp_buf out;

static void jumps(void *context, kr_task task, kr_status status, const char *message)
{
    (void)context, (void)task, (void)status, (void)message;
    longjmp(out, 1);
}

int main(void)
{
    static kr_cluster *cluster;
    static kr_worker *worker;
    kr_options options = {sizeof(kr_options), 0, NULL, 0, 0, 0, jumps, NULL, 0, NULL, NULL};
    kr_job job;
    kr_table_spec spec;
    kr_table table;
    kr_task task;
    const float one = 1;
    const void *parts[1];
    kr_select key = {NULL, 1, 1};
    parts[0] = &one;
    OK(kr_job_init(&job, 1, 1));
    OK(kr_cluster_start(&job, NULL, &cluster));
    OK(kr_cluster_worker(cluster, 0, &worker));
    OK(kr_table_spec_init(&spec));
    OK(kr_table_create(worker, &spec, LIMIT_MS, &table));
    if (setjmp(out) == 0) {
        OK(kr_push(worker, table, key, parts, 1, 1, &options, &task));
        kr_wait_below(worker, 0, LIMIT_MS);
        EXPECT(!"the callback came");
    }
    SAYS(KR_MISUSE, "in use", kr_poll(worker));
    SAYS(KR_MISUSE, "in use", kr_worker_finish(worker, LIMIT_MS));
    OK(kr_cluster_abort(cluster, "a worker was lost"));
    SAYS(KR_ENDED, "a worker was lost", kr_cluster_join(cluster));
    puts("jump: all as expected");
    return 0;
}
