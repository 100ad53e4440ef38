/* Everything a caller can do wrong with a clocked table is told, and the job goes on. */
#include "check.h"

enum { LIMIT_MS = 20000 };

static kr_worker *workers[2];
static kr_table table, plain;

/* What a table must be to count clocks. */
static void make_tables(void)
{
    kr_table_spec spec;
    kr_table other;
    OK(kr_table_spec_init(&spec));
    OK(kr_table_create(workers[0], &spec, LIMIT_MS, &plain));
    spec.id = 1;
    spec.width = 2;
    spec.aggregation = 3;
    SAYS(KR_INVALID, "KR_CLOCKED, got 3", kr_table_create(workers[0], &spec, LIMIT_MS, &table));
    spec.aggregation = KR_CLOCKED;
    spec.store = KR_FROZEN;
    SAYS(KR_REFUSED, "dense or sparse", kr_table_create(workers[0], &spec, LIMIT_MS, &table));
    spec.store = KR_SPARSE;
    OK(kr_table_create(workers[0], &spec, LIMIT_MS, &table));
    OK(kr_table_create(workers[1], &spec, LIMIT_MS, &other));
    EXPECT(other.id == table.id && other.aggregation == table.aggregation && table.aggregation == KR_CLOCKED);
}

/* Each field of a configuration. */
static void bad_configurations(void)
{
    kr_clocked_config config;
    kr_clocked *none = NULL;
    kr_table strange = table;
    SAYS(KR_INVALID, "kr_clocked_config", kr_clocked_config_init(NULL));
    OK(kr_clocked_config_init(&config));
    SAYS(KR_INVALID, "kr_clocked_config", kr_clocked_open(workers[0], table, NULL, &none));
    SAYS(KR_INVALID, "where to put", kr_clocked_open(workers[0], table, &config, NULL));
    SAYS(KR_INVALID, "KR_CLOCKED", kr_clocked_open(workers[0], plain, &config, &none));
    strange.value_type = KR_F64;
    SAYS(KR_INVALID, "kr_table_create", kr_clocked_open(workers[0], strange, &config, &none));
    strange = table;
    strange.width = 3;
    SAYS(KR_INVALID, "kr_table_create", kr_clocked_open(workers[0], strange, &config, &none));
    config.size = 4;
    SAYS(KR_INVALID, "sizeof", kr_clocked_open(workers[0], table, &config, &none));
    OK(kr_clocked_config_init(&config));
    config.staleness = (uint64_t)-2;
    SAYS(KR_INVALID, "-2", kr_clocked_open(workers[0], table, &config, &none));
    config.staleness = 1;
    config.eager = 2;
    SAYS(KR_INVALID, "expected 0 or 1, got 2", kr_clocked_open(workers[0], table, &config, &none));
    config.eager = 0;
    config.value_bound = 1;
    SAYS(KR_INVALID, "needs eager", kr_clocked_open(workers[0], table, &config, &none));
    config.eager = 1;
    config.value_bound = -1;
    SAYS(KR_INVALID, "above 0", kr_clocked_open(workers[0], table, &config, &none));
    config.value_bound = 0;
    config.early_burst_bytes = 4096;
    SAYS(KR_INVALID, "leave all three 0", kr_clocked_open(workers[0], table, &config, &none));
    config.early_bytes_per_s = 1000;
    config.early_order = 9;
    SAYS(KR_INVALID, "KR_EARLY_FIFO", kr_clocked_open(workers[0], table, &config, &none));
    config.early_order = KR_EARLY_RANDOM;
    config.early_burst_bytes = 8;
    SAYS(KR_INVALID, "one row", kr_clocked_open(workers[0], table, &config, &none));
    EXPECT(none == NULL);
}

/* Handles, pointers, and rows that are not there. */
static void bad_calls(kr_clocked *rows)
{
    const uint64_t keys[2] = {7, 3};
    const float ones[4] = {1, 1, 1, 1};
    float row[2];
    uint64_t reads[1];
    kr_clocked_stats stats = {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    SAYS(KR_INVALID, "kr_clocked: expected a handle, got NULL", kr_clocked_poll(workers[0], NULL));
    SAYS(KR_INVALID, "kr_worker: expected a handle, got NULL", kr_clocked_poll(NULL, rows));
    SAYS(KR_MISUSE, "another kind", kr_clocked_poll(workers[0], (kr_clocked *)(void *)workers[1]));
    SAYS(KR_INVALID, "expected worker 0, which opened table 1, got worker 1", kr_clocked_poll(workers[1], rows));
    SAYS(KR_INVALID, "got worker 1", kr_clocked_inc(workers[1], rows, 7, ones));
    SAYS(KR_INVALID, "not fetched at clock 0", kr_clocked_get(workers[0], rows, 7, row));
    SAYS(KR_INVALID, "keys", kr_clocked_fetch(workers[0], rows, NULL, 2, LIMIT_MS));
    OK(kr_clocked_fetch(workers[0], rows, NULL, 0, LIMIT_MS));
    OK(kr_clocked_fetch(workers[0], rows, keys, 2, LIMIT_MS));
    SAYS(KR_INVALID, "row: expected room for 2 values", kr_clocked_get(workers[0], rows, 7, NULL));
    SAYS(KR_INVALID, "row: expected room for 2 values", kr_clocked_get(workers[0], rows, 7, (char *)row + 1));
    SAYS(KR_INVALID, "not fetched", kr_clocked_get(workers[0], rows, 8, row));
    SAYS(KR_INVALID, "delta: expected 2 values", kr_clocked_inc(workers[0], rows, 7, NULL));
    SAYS(KR_INVALID, "deltas: expected 4 values", kr_clocked_batch_inc(workers[0], rows, keys, 2, NULL));
    SAYS(KR_INVALID, "do not fit", kr_clocked_batch_inc(workers[0], rows, keys, SIZE_MAX / 2, ones));
    OK(kr_clocked_batch_inc(workers[0], rows, NULL, 0, NULL));
    SAYS(KR_INVALID, "where to put", kr_clocked_clock(workers[0], rows, NULL));
    SAYS(KR_INVALID, "sizeof", kr_clocked_describe(workers[0], rows, &stats));
    SAYS(KR_INVALID, "kr_clocked_stats", kr_clocked_describe(workers[0], rows, NULL));
    SAYS(KR_INVALID, "at least one", kr_clocked_reads(workers[0], rows, reads, 0));
    SAYS(KR_INVALID, "reads: expected room for 1", kr_clocked_reads(workers[0], rows, NULL, 1));
    OK(kr_clocked_get(workers[0], rows, 7, row));
    EXPECT(row[0] == 0 && row[1] == 0);
    OK(kr_clocked_inc(workers[0], rows, 7, ones));
    OK(kr_clocked_get(workers[0], rows, 7, row));
    EXPECT(row[0] == 1 && row[1] == 1);
}

/* Requests that are not for tables that count clocks. */
static void bad_requests(void)
{
    float values[2] = {1, 1};
    const void *parts[1];
    kr_select one = {NULL, 7, 7};
    kr_options options = {sizeof(kr_options), 0, NULL, 0, 0, 0, NULL, NULL, 0, NULL, NULL};
    kr_task task;
    parts[0] = values;
    OK(kr_push(workers[0], table, one, parts, 1, 2, NULL, &task));
    SAYS(KR_REFUSED, "goes backwards", kr_wait(workers[0], task, LIMIT_MS));
    options.time = 9;
    OK(kr_push(workers[0], table, one, parts, 1, 2, &options, &task));
    SAYS(KR_REFUSED, "skips", kr_wait(workers[0], task, LIMIT_MS));
    OK(kr_push_pull(workers[0], table, one, parts, 1, values, 2, &options, &task));
    SAYS(KR_REFUSED, "pulled by itself", kr_wait(workers[0], task, LIMIT_MS));
    OK(kr_chain_new("fixed:1", KR_PUSH, 0, NULL, &options.push_chain));
    SAYS(KR_INVALID, "lose nothing", kr_push(workers[0], table, one, parts, 1, 2, &options, &task));
    OK(kr_chain_free(options.push_chain));
}

/* Who waits for a worker that fails hears why. */
static void job_ends(void)
{
    const uint64_t key = 7;
    kr_clocked_config config;
    kr_clocked *rows;
    kr_cluster *cluster;
    kr_job job;
    OK(kr_job_init(&job, 1, 2));
    OK(kr_cluster_start(&job, NULL, &cluster));
    OK(kr_cluster_worker(cluster, 0, &workers[0]));
    OK(kr_cluster_worker(cluster, 1, &workers[1]));
    make_tables();
    OK(kr_clocked_config_init(&config));
    OK(kr_clocked_open(workers[0], table, &config, &rows));
    OK(kr_clocked_close(workers[0], rows, LIMIT_MS));
    OK(kr_worker_fail(workers[1], "on purpose"));
    SAYS(KR_ENDED, "on purpose", kr_clocked_fetch(workers[0], rows, &key, 1, LIMIT_MS));
    SAYS(KR_ENDED, "on purpose", kr_worker_finish(workers[0], LIMIT_MS));
    OK(kr_clocked_free(rows));
    SAYS(KR_ENDED, "on purpose", kr_cluster_join(cluster));
}

int main(void)
{
    kr_clocked_config config;
    kr_clocked *rows, *again, *others;
    kr_cluster *cluster;
    kr_job job;
    OK(kr_job_init(&job, 1, 2));
    OK(kr_cluster_start(&job, NULL, &cluster));
    OK(kr_cluster_worker(cluster, 0, &workers[0]));
    OK(kr_cluster_worker(cluster, 1, &workers[1]));
    make_tables();
    bad_configurations();
    bad_requests();
    OK(kr_clocked_config_init(&config));
    OK(kr_clocked_open(workers[0], table, &config, &rows));
    SAYS(KR_INVALID, "has opened table 1 before", kr_clocked_open(workers[0], table, &config, &again));
    OK(kr_clocked_open(workers[1], table, &config, &others));
    bad_calls(rows);
    OK(kr_clocked_free(others));
    SAYS(KR_MISUSE, "freed before", kr_clocked_poll(workers[1], others));
    SAYS(KR_MISUSE, "freed before", kr_clocked_free(others));
    OK(kr_clocked_free(NULL));
    SAYS(KR_INVALID, "has opened table 1 before", kr_clocked_open(workers[1], table, &config, &others));
    OK(kr_table_drop(workers[0], table, LIMIT_MS));
    SAYS(KR_INVALID, "table 1 was dropped", kr_clocked_poll(workers[0], rows));
    OK(kr_worker_finish(workers[0], LIMIT_MS));
    SAYS(KR_MISUSE, "freed before", kr_clocked_poll(workers[0], rows));
    OK(kr_clocked_free(rows)); /* after its worker */
    OK(kr_worker_finish(workers[1], LIMIT_MS));
    OK(kr_cluster_join(cluster));
    job_ends();
    puts("clocked_misuse: all as expected");
    return 0;
}
