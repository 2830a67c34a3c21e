/* What fuzzers share: the entry that libFuzzer and replay.c call, and a check that aborts in any build. */
#pragma once
#include <glib.h>

int LLVMFuzzerTestOneInput(const guint8 *data, gsize len);

#define FUZZ_CHECK(condition)                                                                                \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            g_error("broken promise: %s", #condition);                                                       \
    } while (0)
