/* The smallest trainer: a whole job in one process, one push, one pull. */
#include <stdio.h>

#include "keyrange.h"

#define CHECK(call)                                   \
    do {                                              \
        if ((call) != KR_OK) {                        \
            fprintf(stderr, "%s\n", kr_last_error()); \
            return 1;                                 \
        }                                             \
    } while (0)

int main(void)
{
    uint64_t ids[] = {3, 17, (uint64_t)1 << 40};
    float gradient[] = {0.5f, 1, 2}, weights[3];
    const void *parts[] = {gradient};
    kr_select keys = {NULL, 0, 0};
    kr_job job;
    kr_cluster *cluster;
    kr_worker *worker;
    kr_table_spec spec;
    kr_table table;
    kr_task task;

    CHECK(kr_abi_check(KR_ABI_VERSION));
    CHECK(kr_job_init(&job, 1, 1)); /* one server thread, one worker */
    CHECK(kr_cluster_start(&job, NULL, &cluster));
    CHECK(kr_cluster_worker(cluster, 0, &worker));
    CHECK(kr_table_spec_init(&spec)); /* sparse, float, w += what is pushed */
    CHECK(kr_table_create(worker, &spec, 10000, &table));
    CHECK(kr_keys_new(ids, 3, &keys.list)); /* checked once, used again and again */
    CHECK(kr_push(worker, table, keys, parts, 1, 3, NULL, &task));
    CHECK(kr_wait(worker, task, 10000));
    CHECK(kr_pull(worker, table, keys, weights, 3, NULL, &task));
    CHECK(kr_wait(worker, task, 10000));
    printf("%g %g %g\n", weights[0], weights[1], weights[2]);
    CHECK(kr_keys_free(keys.list));
    CHECK(kr_worker_finish(worker, 10000));
    CHECK(kr_cluster_join(cluster));
    return 0;
}
