/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/cli/bench_draw.h"
#include "proxy/cli/histogram.h"

/* What `replikv bench` draws, what it counts in, and its options. */

/* ---- the histogram ---- */

static void quantiles_are_within_two_percent(void **state)
{
    static const double fractions[] = {0.001, 0.5, 0.99, 0.999, 1.0};
    static struct histogram histogram;
    (void)state;
    for (uint64_t ns = 1; ns <= 1000000; ns++)
        histogram_record(&histogram, ns, 1);
    for (size_t i = 0; i < sizeof fractions / sizeof fractions[0]; i++) {
        double exact = fractions[i] * 1e6;
        double found = (double)histogram_quantile(&histogram, fractions[i]);
        assert_true(found <= exact && found >= 0.98 * exact);
    }
    assert_int_equal(histogram.max, 1000000);
    assert_int_equal(histogram.count, 1000000);
}

static void a_batch_counts_as_its_operations(void **state)
{
    static struct histogram one, sum;
    (void)state;
    histogram_record(&one, 6400, 64);
    histogram_record(&sum, UINT64_MAX, 1);
    histogram_add(&sum, &one);
    assert_int_equal(sum.count, 65);
    assert_in_range(histogram_quantile(&sum, 0.5), 98, 100);
    assert_true(sum.max == UINT64_MAX);
    assert_true(histogram_quantile(&sum, 1) >= UINT64_MAX / 64 * 63);
}

static void what_came_since_is_the_difference(void **state)
{
    static struct histogram before, now;
    (void)state;
    histogram_record(&before, 1000, 1);
    histogram_add(&now, &before);
    histogram_record(&now, 9000000, 1);
    histogram_subtract(&now, &before);
    assert_int_equal(now.count, 1);
    assert_in_range(histogram_quantile(&now, 0.5), 8850000, 9000000);
    histogram_subtract(&before, &before);
    assert_int_equal(histogram_quantile(&before, 0.5), 0);
}

static char *printed(const struct histogram *histogram)
{
    char *text = NULL;
    size_t size;
    FILE *file = open_memstream(&text, &size);
    assert_non_null(file);
    histogram_print(histogram, file);
    fclose(file);
    return text;
}

static void percentiles_are_printed_as_hdr_histogram_does(void **state)
{
    static struct histogram histogram;
    (void)state;
    histogram_record(&histogram, 1048576, 1);
    histogram_record(&histogram, 2097152, 1);
    histogram_record(&histogram, 4194304, 1);
    histogram_record(&histogram, 8400000, 1);
    char *text = printed(&histogram);
    assert_string_equal(
        text, "       Value     Percentile TotalCount 1/(1-Percentile)\n\n"
              "       1.049 0.000000000000          1           1.00\n"
              "       1.049 0.100000000000          1           1.11\n"
              "       1.049 0.200000000000          1           1.25\n"
              "       2.097 0.300000000000          2           1.43\n"
              "       2.097 0.400000000000          2           1.67\n"
              "       2.097 0.500000000000          2           2.00\n"
              "       4.194 0.550000000000          3           2.22\n"
              "       4.194 0.600000000000          3           2.50\n"
              "       4.194 0.650000000000          3           2.86\n"
              "       4.194 0.700000000000          3           3.33\n"
              "       4.194 0.750000000000          3           4.00\n"
              "       8.389 0.775000000000          4           4.44\n"
              "       8.400 1.000000000000          4\n"
              "#[Mean    =        3.932, StdDeviation   =        2.811]\n"
              "#[Max     =        8.400, Total count    =            4]\n"
              "#[Buckets =           59, SubBuckets     =           64]\n");
    free(text);
}

static void percentiles_of_nothing_are_printed(void **state)
{
    static struct histogram histogram;
    (void)state;
    char *text = printed(&histogram);
    assert_non_null(strstr(text, "0.000 1.000000000000          0\n#"));
    free(text);
}

/* ---- what is drawn ---- */

enum { DRAWS = 1000000 };

static void zeta_is_the_sum(void **state)
{
    static const uint64_t counts[] = {1, 2, 1000, 1001, 1234567};
    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        double sum = 0;
        for (uint64_t n = counts[i]; n > 0; n--)
            sum += pow((double)n, -0.99);
        assert_true(fabs(zipf_zeta(counts[i]) - sum) < 1e-9 * sum);
    }
    /* YCSB's ScrambledZipfianGenerator has this as a constant. */
    assert_true(fabs(zipf_zeta(10000000000) - 26.46902820178302) < 1e-6);
}

/* With every u in turn no chance is left: the first two ranks are exact, and
 * Gray's formula gives the cumulated shares of the rest to 2 % of all. */
static void ranks_come_up_as_often_as_theory_says(void **state)
{
    enum { RANKS = 1000 };
    static uint64_t seen[RANKS];
    struct zipf zipf;
    (void)state;
    zipf_init(&zipf, RANKS);
    for (uint64_t i = 0; i < DRAWS; i++)
        seen[zipf_rank(&zipf, ((double)i + 0.5) / DRAWS)]++;
    double up_to = 0;
    uint64_t found = 0;
    for (uint64_t rank = 0; rank < RANKS; rank++) {
        double share = pow((double)rank + 1, -0.99) / zipf_zeta(RANKS);
        up_to += share;
        found += seen[rank];
        if (rank < 2)
            assert_true(fabs((double)seen[rank] - share * DRAWS) < 2);
        assert_true(fabs((double)found / DRAWS - up_to) < 0.02);
    }
    assert_int_equal(found, DRAWS);
}

static void ranks_are_within_the_count(void **state)
{
    static const double edges[] = {0, 0.3, 0.7, 0.999999, 1 - 0x1p-53};
    (void)state;
    for (uint64_t count = 1; count <= 5; count++) {
        struct zipf zipf;
        zipf_init(&zipf, count);
        for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++)
            assert_true(zipf_rank(&zipf, edges[i]) < count);
    }
}

static struct bench_options options_of(const char *mix,
                                       enum bench_distribution distribution)
{
    struct bench_options options = bench_defaults;
    assert_null(bench_take_option(&options, 'M', mix));
    options.distribution = distribution;
    options.keys = 1000;
    assert_null(bench_settle(&options, 1));
    return options;
}

/* How often each key came up. */
static void count_keys(const struct bench_options *options, uint64_t *seen)
{
    struct bench_plan plan;
    struct bench_stream stream;
    struct bench_operation operation;
    bench_plan_init(&plan, options);
    bench_stream_init(&stream, &plan, 0);
    memset(seen, 0, options->keys * sizeof(*seen));
    for (uint64_t i = 0; i < DRAWS; i++) {
        bench_stream_next(&stream, &operation);
        assert_true(operation.key < options->keys);
        seen[operation.key]++;
    }
}

static int by_count(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

/* Beside its own share a key has that of the other ranks that fall on it, of
 * which there are ten billion. */
static void scattered_keys_are_as_popular_as_in_ycsb(void **state)
{
    static uint64_t seen[1000];
    struct bench_options options = options_of("get=100", BENCH_ZIPFIAN);
    (void)state;
    count_keys(&options, seen);
    /* Neighbours in rank are no neighbours. */
    assert_true(seen[0] < DRAWS / 100 && seen[1] < DRAWS / 100);
    qsort(seen, 1000, sizeof(*seen), by_count);
    double zeta = zipf_zeta(10000000000);
    for (int rank = 0; rank < 2; rank++) {
        double share = pow(rank + 1, -0.99) / zeta;
        double found = (double)seen[rank] / DRAWS;
        assert_true(found > share && found < share + 0.003);
    }
    assert_true(seen[999] > 0);
}

static void uniform_keys_are_equally_popular(void **state)
{
    static uint64_t seen[1000];
    struct bench_options options = options_of("get=100", BENCH_UNIFORM);
    (void)state;
    count_keys(&options, seen);
    /* 1000 each, with six deviations of sqrt(1000). */
    for (int key = 0; key < 1000; key++)
        assert_in_range(seen[key], 810, 1190);
}

static void latest_reads_what_was_inserted_last(void **state)
{
    struct bench_options options = options_of("get=90,insert=10", BENCH_LATEST);
    struct bench_plan plan;
    struct bench_stream stream;
    struct bench_operation operation;
    uint64_t newest = options.keys - 1, of_newest = 0, gets = 0, inserts = 0;
    (void)state;
    bench_plan_init(&plan, &options);
    bench_stream_init(&stream, &plan, 3);
    for (int i = 0; i < 100000; i++) {
        bench_stream_next(&stream, &operation);
        if (operation.kind == BENCH_INSERT) {
            newest = options.keys + inserts++ * options.clients + 3;
            assert_int_equal(operation.key, newest);
        } else {
            gets++;
            of_newest += operation.key == newest;
            assert_true(operation.key < options.keys ||
                        operation.key % options.clients ==
                            (options.keys + 3) % options.clients);
            assert_true(operation.key <= newest);
        }
    }
    double share = (double)of_newest / (double)gets;
    assert_true(fabs(share - 1 / zipf_zeta(options.keys)) < 0.005);
    assert_in_range(inserts, 9500, 10500);
}

static uint64_t digest_of(const struct bench_options *options, uint32_t client)
{
    struct bench_plan plan;
    struct bench_stream stream;
    struct bench_operation operation;
    uint64_t digest = 0;
    bench_plan_init(&plan, options);
    bench_stream_init(&stream, &plan, client);
    for (int i = 0; i < 1000; i++) {
        bench_stream_next(&stream, &operation);
        digest = digest * 31 + operation.kind;
        digest = digest * 31 + operation.key;
        digest = digest * 31 + operation.value_bytes;
        digest = digest * 31 + operation.random;
    }
    return digest;
}

static void a_seed_gives_each_client_its_operations_again(void **state)
{
    struct bench_options options =
        options_of("get=50,put=40,delete=5,rmw=5", BENCH_ZIPFIAN);
    (void)state;
    options.value_bytes_max = 1000;
    uint64_t first = digest_of(&options, 0);
    assert_true(digest_of(&options, 0) == first);
    assert_true(digest_of(&options, 1) != first);
    options.seed++;
    assert_true(digest_of(&options, 0) != first);
}

static void a_mix_and_sizes_come_up_as_asked_for(void **state)
{
    struct bench_options options =
        options_of("get=50,put=30,delete=15,rmw=5", BENCH_UNIFORM);
    static const uint64_t wanted[BENCH_KINDS] = {[BENCH_GET] = 50000,
                                                 [BENCH_PUT] = 30000,
                                                 [BENCH_DELETE] = 15000,
                                                 [BENCH_RMW] = 5000};
    uint64_t seen[BENCH_KINDS] = {0}, bytes = 0;
    struct bench_plan plan;
    struct bench_stream stream;
    struct bench_operation operation;
    (void)state;
    options.value_bytes_min = 10;
    options.value_bytes_max = 20;
    bench_plan_init(&plan, &options);
    bench_stream_init(&stream, &plan, 0);
    for (int i = 0; i < 100000; i++) {
        bench_stream_next(&stream, &operation);
        seen[operation.kind]++;
        bytes += operation.value_bytes;
        assert_in_range(operation.value_bytes, 10, 20);
    }
    /* Six deviations at most: sqrt(100000 / 4) = 158. */
    for (int kind = 0; kind < BENCH_KINDS; kind++)
        assert_true(seen[kind] + 950 > wanted[kind] &&
                    seen[kind] < wanted[kind] + 950);
    assert_int_equal(seen[BENCH_INSERT], 0);
    assert_in_range(bytes, 1490000, 1510000);
}

static void every_key_is_loaded_by_one_client(void **state)
{
    struct bench_options options = options_of("get=100", BENCH_UNIFORM);
    struct bench_plan plan;
    struct bench_stream stream;
    struct bench_operation operation;
    int seen[1000] = {0};
    (void)state;
    options.clients = 7;
    bench_plan_init(&plan, &options);
    for (uint32_t client = 0; client < options.clients; client++) {
        bench_stream_init(&stream, &plan, client);
        while (bench_stream_load(&stream, &operation)) {
            assert_true(operation.key < options.keys);
            seen[operation.key]++;
        }
    }
    for (int key = 0; key < 1000; key++)
        assert_int_equal(seen[key], 1);
}

/* ---- the options ---- */

static void options_are_taken(void **state)
{
    struct bench_options options = bench_defaults;
    (void)state;
    assert_null(bench_take_option(&options, 'C', "1024"));
    assert_null(bench_take_option(&options, 'B', "4"));
    assert_null(bench_take_option(&options, 'R', "5000"));
    assert_null(bench_take_option(&options, 'V', "0-4096"));
    assert_null(bench_take_option(&options, 'S', "18446744073709551615"));
    assert_null(bench_take_option(&options, 'D', "uniform"));
    assert_null(bench_take_option(&options, 'W', "D"));
    assert_null(bench_settle(&options, 64));
    assert_int_equal(options.clients, 1024);
    assert_int_equal(options.batch, 4);
    assert_int_equal(options.rate, 5000);
    assert_int_equal(options.value_bytes_min, 0);
    assert_int_equal(options.value_bytes_max, 4096);
    assert_true(options.seed == UINT64_MAX);
    assert_int_equal(options.distribution, BENCH_UNIFORM);
    assert_int_equal(options.share[BENCH_GET], 95);
    assert_int_equal(options.share[BENCH_INSERT], 5);
}

static void a_workload_brings_its_distribution(void **state)
{
    static const struct {
        const char *workload;
        enum bench_distribution distribution;
    } rows[] = {{"a", BENCH_ZIPFIAN},
                {"b", BENCH_ZIPFIAN},
                {"c", BENCH_ZIPFIAN},
                {"d", BENCH_LATEST},
                {"f", BENCH_ZIPFIAN}};
    struct bench_options options = bench_defaults;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        options = bench_defaults;
        assert_null(bench_take_option(&options, 'W', rows[i].workload));
        assert_null(bench_settle(&options, 1));
        assert_int_equal(options.distribution, rows[i].distribution);
    }
    options = bench_defaults;
    assert_null(bench_settle(&options, 1));
    assert_string_equal(options.workload, "a");
    assert_int_equal(options.share[BENCH_PUT], 50);
}

static void wrong_options_are_answered_with_what_is_allowed(void **state)
{
    static const struct {
        char letter;
        const char *argument, *said;
    } rows[] = {{'C', "0", "1 to 1024"},
                {'C', "1025", "1 to 1024"},
                {'C', "4x", "1 to 1024"},
                {'B', "0", "1 to 1000 operations"},
                {'B', "1001", "1 to 1000 operations"},
                {'R', "0", "1 to 10000000"},
                {'R', "-1", "1 to 10000000"},
                {'R', "", "1 to 10000000"},
                {'W', "e", "scans"},
                {'W', "g", "a, b, c, d or f"},
                {'W', "", "a, b, c, d or f"},
                {'W', "ab", "a, b, c, d or f"},
                {'M', "get=50,put=40", "sum to 100"},
                {'M', "get=100,put=1", "sum to 100"},
                {'M', "get=101", "percents of get"},
                {'M', "get=50,get=50", "once at most"},
                {'M', "scan=100", "percents of get"},
                {'M', "get=100,", "percents of get"},
                {'M', "get", "percents of get"},
                {'M', "", "percents of get"},
                {'K', "0", "1 to 1000000000"},
                {'K', "1000000001", "1 to 1000000000"},
                {'D', "normal", "uniform, zipfian or latest"},
                {'D', "", "uniform, zipfian or latest"},
                {'V', "20-10", "LEAST-MOST"},
                {'V', "10-", "LEAST-MOST"},
                {'V', "67108865", "0 to 67108864"},
                {'V', "1k", "0 to 67108864"},
                {'S', "18446744073709551616", "--seed"},
                {'U', "3601", "0 to 3600"},
                {'T', "0", "1 to 604800"}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bench_options options = bench_defaults;
        const char *said =
            bench_take_option(&options, rows[i].letter, rows[i].argument);
        if (said == NULL || strstr(said, rows[i].said) == NULL)
            fail_msg("-%c %s: %s", rows[i].letter, rows[i].argument,
                     said == NULL ? "taken" : said);
    }
}

static void what_does_not_go_together_is_refused(void **state)
{
    struct bench_options options = bench_defaults;
    (void)state;
    assert_null(bench_take_option(&options, 'W', "a"));
    assert_null(bench_take_option(&options, 'M', "get=100"));
    assert_non_null(strstr(bench_settle(&options, 1), "one of them"));
    options = bench_defaults;
    assert_null(bench_take_option(&options, 'C', "1024"));
    assert_null(bench_settle(&options, 64));
    assert_non_null(strstr(bench_settle(&options, 65), "at most 65536"));
    assert_null(bench_take_option(&options, 'B', "256"));
    assert_null(bench_settle(&options, 1));
    assert_non_null(strstr(bench_settle(&options, 2), "at most 262144"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_are_within_two_percent),
        cmocka_unit_test(a_batch_counts_as_its_operations),
        cmocka_unit_test(what_came_since_is_the_difference),
        cmocka_unit_test(percentiles_are_printed_as_hdr_histogram_does),
        cmocka_unit_test(percentiles_of_nothing_are_printed),
        cmocka_unit_test(zeta_is_the_sum),
        cmocka_unit_test(ranks_come_up_as_often_as_theory_says),
        cmocka_unit_test(ranks_are_within_the_count),
        cmocka_unit_test(scattered_keys_are_as_popular_as_in_ycsb),
        cmocka_unit_test(uniform_keys_are_equally_popular),
        cmocka_unit_test(latest_reads_what_was_inserted_last),
        cmocka_unit_test(a_seed_gives_each_client_its_operations_again),
        cmocka_unit_test(a_mix_and_sizes_come_up_as_asked_for),
        cmocka_unit_test(every_key_is_loaded_by_one_client),
        cmocka_unit_test(options_are_taken),
        cmocka_unit_test(a_workload_brings_its_distribution),
        cmocka_unit_test(wrong_options_are_answered_with_what_is_allowed),
        cmocka_unit_test(what_does_not_go_together_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
