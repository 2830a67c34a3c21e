/* Replays a fuzzer's corpus as a plain regression test, with generated mutations of it.
 *
 *     fuzz-NAME CORPUS-DIRECTORY [FILE…]
 *
 * Each input is run as it is, at each of its shorter lengths (up to a bound), with single bits flipped, and
 * with bytes overwritten, removed, inserted and swapped between inputs by a random generator whose seed is
 * fixed: a failure comes again at the next run. Each run gets a copy of exactly its size, so that a sanitizer
 * sees every byte read too far. Without a corpus the mutations begin at an empty input and at random ones.
 *
 * The fuzzer aborts when a promise of the parser is broken; to come back from all of this is to pass. */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#define SEED      20240229
#define MUTATIONS 400 /* an input */
#define PREFIXES  300
#define FLIPS     400
#define INPUT_MAX (1024 * 1024)

static void
run(const guint8 *data, gsize len)
{
    g_autofree guint8 *copy = g_malloc(len > 0 ? len : 1);
    if (len > 0)
        memcpy(copy, data, len);
    LLVMFuzzerTestOneInput(copy, len);
}

static gboolean
load(GPtrArray *inputs, const char *path)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *data = NULL;
    gsize len = 0;
    if (!g_file_get_contents(path, &data, &len, &error)) {
        g_printerr("%s\n", error->message);
        return FALSE;
    }
    g_ptr_array_add(inputs, g_bytes_new_take(g_steal_pointer(&data), MIN(len, INPUT_MAX)));
    return TRUE;
}

static gint
compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static gboolean
load_directory(GPtrArray *inputs, const char *path)
{
    g_autoptr(GDir) directory = g_dir_open(path, 0, NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    const char *name;
    while (directory != NULL && (name = g_dir_read_name(directory)) != NULL)
        g_ptr_array_add(names, g_build_filename(path, name, NULL));
    /* The order of a directory is not that of another machine. */
    g_ptr_array_sort(names, compare_names);
    for (guint i = 0; i < names->len; i++)
        if (!load(inputs, names->pdata[i]))
            return FALSE;
    return TRUE;
}

static void
systematic(GBytes *input)
{
    gsize len;
    const guint8 *data = g_bytes_get_data(input, &len);
    gsize step = MAX(len / PREFIXES, 1);
    run(data, len);
    for (gsize shorter = 0; shorter < len; shorter += step)
        run(data, shorter);
    g_autofree guint8 *copy = g_memdup2(data, len);
    step = MAX(len * 8 / FLIPS, 1);
    for (gsize bit = 0; bit < len * 8; bit += step) {
        copy[bit / 8] ^= (guint8)(1u << bit % 8);
        run(copy, len);
        copy[bit / 8] ^= (guint8)(1u << bit % 8);
    }
}

static void
mutate(GByteArray *work, GRand *random, GBytes *other)
{
    static const guint8 edges[] = {0x00, 0x01, 0x7f, 0x80, 0xff, 0x0a, 0x20, 0x2f};
    guint at = work->len > 0 ? (guint)g_rand_int_range(random, 0, (gint)work->len) : 0;
    guint room = MIN(work->len - at, 64);
    gsize other_len;
    const guint8 *other_data = g_bytes_get_data(other, &other_len);
    switch (g_rand_int_range(random, 0, 5)) {
        case 0:
            if (room > 0)
                work->data[at] = (guint8)g_rand_int(random);
            break;
        case 1:
            for (guint i = 0; i < MIN(room, 4); i++)
                work->data[at + i] = edges[g_rand_int_range(random, 0, G_N_ELEMENTS(edges))];
            break;
        case 2:
            if (room > 0)
                g_byte_array_remove_range(work, at, (guint)g_rand_int_range(random, 1, (gint)room + 1));
            break;
        case 3: {
            guint8 bytes[4];
            for (guint i = 0; i < sizeof bytes; i++)
                bytes[i] = (guint8)g_rand_int(random);
            g_byte_array_append(work, bytes, sizeof bytes);
            break;
        }
        default: /* the other's tail */
            if (other_len > 0) {
                gsize from = (gsize)g_rand_int_range(random, 0, (gint)other_len);
                g_byte_array_set_size(work, at);
                g_byte_array_append(work, other_data + from, (guint)(other_len - from));
            }
    }
}

static void
random_walk(GPtrArray *inputs, guint index, GRand *random)
{
    for (int i = 0; i < MUTATIONS; i++) {
        GBytes *input = inputs->pdata[index];
        g_autoptr(GByteArray) work = g_byte_array_new();
        gsize len;
        const guint8 *data = g_bytes_get_data(input, &len);
        if (len > 0)
            g_byte_array_append(work, data, (guint)len);
        for (int times = g_rand_int_range(random, 1, 5); times > 0; times--)
            mutate(work, random, inputs->pdata[g_rand_int_range(random, 0, (gint)inputs->len)]);
        run(work->data, work->len);
    }
}

static void
add_random_inputs(GPtrArray *inputs, GRand *random)
{
    for (int i = 0; i < 8; i++) {
        gsize len = (gsize)i * 24;
        guint8 *data = g_malloc(len + 1);
        for (gsize at = 0; at < len; at++)
            data[at] = (guint8)g_rand_int(random);
        g_ptr_array_add(inputs, g_bytes_new_take(data, len));
    }
}

int
main(int argc, char **argv)
{
    g_autoptr(GPtrArray) inputs = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    g_autoptr(GRand) random = g_rand_new_with_seed(SEED);
    for (int i = 1; i < argc; i++)
        if (g_file_test(argv[i], G_FILE_TEST_IS_REGULAR) ? !load(inputs, argv[i])
                                                         : !load_directory(inputs, argv[i]))
            return 1;
    guint from_corpus = inputs->len;
    add_random_inputs(inputs, random);
    for (guint i = 0; i < inputs->len; i++) {
        systematic(inputs->pdata[i]);
        random_walk(inputs, i, random);
    }
    g_print("%u inputs of the corpus and their mutations: no promise broken\n", from_corpus);
    return 0;
}
