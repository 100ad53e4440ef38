/* Everything a caller can do wrong is told, and the job goes on. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { LIMIT_MS = 20000 };

static kr_worker *worker;
static kr_table table;

/* From another thread, until the first one is inside. */
static void *meanwhile(void *nothing)
{
    kr_status status;
    (void)nothing;
    do
        status = kr_poll(worker);
    while (status == KR_OK);
    EXPECT(status == KR_MISUSE && strstr(kr_last_error(), "in use"));
    return NULL;
}

static void from_callback(void *context, kr_task task, kr_status status, const char *message)
{
    (void)task;
    (void)message;
    EXPECT(status == KR_OK);
    SAYS(KR_MISUSE, "in use", kr_poll(worker));
    ++*(int *)context;
}

/* A child cannot use, not even free, what it inherited, but a job of its own works. */
static int anew(kr_cluster *inherited)
{
    const float one = 1;
    kr_job job;
    kr_cluster *cluster;
    kr_worker *mine;
    kr_table_spec spec;
    kr_table its;
    kr_task task;
    SAYS(KR_MISUSE, "fork", kr_cluster_join(inherited));
    SAYS(KR_MISUSE, "fork", kr_worker_finish(worker, LIMIT_MS));
    OK(kr_job_init(&job, 1, 1));
    OK(kr_cluster_start(&job, NULL, &cluster));
    OK(kr_cluster_worker(cluster, 0, &mine));
    OK(kr_table_spec_init(&spec));
    OK(kr_table_create(mine, &spec, LIMIT_MS, &its));
    OK(kr_push_one(mine, its, 1, &one, LIMIT_MS, &task));
    OK(kr_wait(mine, task, LIMIT_MS));
    OK(kr_worker_finish(mine, LIMIT_MS));
    OK(kr_cluster_join(cluster));
    return 43;
}

int main(void)
{
    kr_job job;
    kr_cluster *cluster;
    kr_worker *freed;
    kr_keys *list, *other = NULL;
    kr_table_spec spec;
    kr_table strange;
    kr_options options = {sizeof(kr_options), 0, NULL, 0, 0, 0, NULL, NULL, 0, NULL, NULL};
    const uint64_t keys[3] = {3, 1, 2};
    float values[3] = {1, 2, 3};
    double doubles[3];
    const void *parts[1], *none[1] = {NULL};
    kr_select range = {NULL, 0, 2}, backwards = {NULL, 2, 0};
    kr_task task;
    pthread_t thread;
    pid_t child;
    kr_status status;
    int code, calls = 0;
    parts[0] = values;

    SAYS(KR_INVALID, "got NULL", kr_poll(NULL));
    SAYS(KR_INVALID, "servers", (kr_job_init(&job, 0, 1), kr_cluster_start(&job, NULL, &cluster)));
    OK(kr_job_init(&job, 1, 1));
    SAYS(KR_INVALID, "where to put", kr_cluster_start(&job, NULL, NULL));
    job.ring_bytes = 1000;
    SAYS(KR_INVALID, "power of two", kr_cluster_start(&job, NULL, &cluster));
    job.ring_bytes = 0;
    job.size = 4000;
    SAYS(KR_INVALID, "sizeof", kr_cluster_start(&job, NULL, &cluster));
    job.size = sizeof job;
    OK(kr_cluster_start(&job, NULL, &cluster));
    SAYS(KR_INVALID, "expected 0 to 0", kr_cluster_worker(cluster, 1, &worker));
    OK(kr_cluster_worker(cluster, 0, &worker));
    SAYS(KR_INVALID, "handed out", kr_cluster_worker(cluster, 0, &freed));
    SAYS(KR_MISUSE, "another kind", kr_poll((kr_worker *)(void *)cluster));

    SAYS(KR_INVALID, "rise strictly", kr_keys_new(keys, 3, &list));
    SAYS(KR_INVALID, "expected 3 values", kr_keys_new(NULL, 3, &list));
    OK(kr_keys_new(keys + 1, 2, &list));
    OK(kr_keys_free(list));
    SAYS(KR_MISUSE, "freed before", kr_keys_free(list));
    OK(kr_keys_free(other));

    OK(kr_table_spec_init(&spec));
    spec.function = "no such function";
    SAYS(KR_REFUSED, "no such function", kr_table_create(worker, &spec, LIMIT_MS, &table));
    spec.function = NULL;
    spec.store = 77;
    SAYS(KR_INVALID, "KR_SPARSE", kr_table_create(worker, &spec, LIMIT_MS, &table));
    spec.store = KR_SPARSE;
    spec.params_json = "{";
    SAYS(KR_INVALID, "expected JSON", kr_table_create(worker, &spec, LIMIT_MS, &table));
    spec.params_json = NULL;
    OK(kr_table_create(worker, &spec, LIMIT_MS, &table));

    SAYS(KR_INVALID, "expected 3 values", kr_push(worker, table, range, parts, 1, 2, NULL, &task));
    SAYS(KR_INVALID, "expected 3 values", kr_pull(worker, table, range, values, 4, NULL, &task));
    SAYS(KR_INVALID, "an array of values", kr_push(worker, table, range, none, 1, 3, NULL, &task));
    SAYS(KR_INVALID, "first <= last", kr_push(worker, table, backwards, parts, 1, 3, NULL, &task));
    range.list = list;
    SAYS(KR_MISUSE, "freed before", kr_push(worker, table, range, parts, 1, 3, NULL, &task));
    range.list = NULL;
    strange = table;
    strange.value_type = KR_F64;
    SAYS(KR_INVALID, "kr_table_create", kr_pull(worker, strange, range, doubles, 3, NULL, &task));
    strange = table;
    strange.width = 2;
    SAYS(KR_INVALID, "kr_table_create", kr_push(worker, strange, range, parts, 1, 3, NULL, &task));
    strange = table;
    strange.id = 99;
    SAYS(KR_INVALID, "table 99", kr_push(worker, strange, range, parts, 1, 3, NULL, &task));
    OK(kr_call(worker, table, KR_ALL_SHARDS, "dance", NULL, 0, NULL, &task));
    SAYS(KR_REFUSED, "dance", kr_wait(worker, task, LIMIT_MS));
    SAYS(KR_INVALID, "no shard 5", kr_call(worker, table, 5, "dance", NULL, 0, NULL, &task));

    options.callback = from_callback;
    options.context = &calls;
    OK(kr_push(worker, table, range, parts, 1, 3, &options, &task));
    OK(kr_wait_below(worker, 0, LIMIT_MS));
    EXPECT(calls == 1);

    spec.id = 1;
    spec.aggregation = KR_ALL_WORKERS;
    OK(kr_table_create(worker, &spec, LIMIT_MS, &strange));
    options.callback = NULL;
    options.after_time = 1; /* an update that nobody makes */
    options.time = 5;
    OK(kr_pull(worker, strange, range, values, 3, &options, &task));
    STATUS(KR_PENDING, kr_test(worker, task));
    pthread_create(&thread, NULL, meanwhile, NULL);
    do
        status = kr_wait(worker, task, 300);
    while (status == KR_MISUSE);
    STATUS(KR_TIMED_OUT, status);
    pthread_join(thread, NULL);
    OK(kr_cancel(worker, task));
    STATUS(KR_CANCELLED, kr_wait(worker, task, LIMIT_MS));
    options.deadline_ms = 10;
    OK(kr_pull(worker, strange, range, values, 3, &options, &task));
    SAYS(KR_CANCELLED, "shard 0", kr_wait(worker, task, LIMIT_MS));

    if (getenv("TEST_WITHOUT_FORK") == NULL) {
        child = fork();
        if (child == 0)
            _exit(kr_poll(worker) == KR_MISUSE && strstr(kr_last_error(), "fork") != NULL ? 42 : 1);
        EXPECT(waitpid(child, &code, 0) == child && WIFEXITED(code) && WEXITSTATUS(code) == 42);
        child = fork();
        if (child == 0)
            _exit(anew(cluster));
        EXPECT(waitpid(child, &code, 0) == child && WIFEXITED(code) && WEXITSTATUS(code) == 43);
    }

    freed = worker;
    OK(kr_pull(worker, table, range, values, 3, NULL, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    EXPECT(values[2] == 3);
    OK(kr_worker_finish(worker, LIMIT_MS));
    SAYS(KR_MISUSE, "freed before", kr_poll(freed));
    OK(kr_cluster_join(cluster));
    SAYS(KR_MISUSE, "freed before", kr_cluster_join(cluster));
    puts("misuse: all as expected");
    return 0;
}
