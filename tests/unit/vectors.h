/* Reads tests/unit/vectors/link.txt: `name hex` lines that link.py made without any code of CBus. */
#pragma once
#include <glib.h>
#include <string.h>

static inline guint8 *
vector_from_hex(const char *hex, gsize *len)
{
    gsize digits = strspn(hex, "0123456789abcdef");
    guint8 *data = g_malloc(digits / 2 + 1);
    for (gsize i = 0; i < digits / 2; i++)
        data[i] = (guint8)(g_ascii_xdigit_value(hex[2 * i]) << 4 | g_ascii_xdigit_value(hex[2 * i + 1]));
    *len = digits / 2;
    return data;
}

/* The bytes of NAME, of which there must be LEN. */
static inline guint8 *
vector(const char *name, gsize len)
{
    static char *text;
    if (text == NULL) {
        g_autofree char *file = g_test_build_filename(G_TEST_DIST, "vectors", "link.txt", NULL);
        g_autoptr(GError) error = NULL;
        g_file_get_contents(file, &text, NULL, &error);
        g_assert_no_error(error);
    }
    for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
        gsize size, head = strlen(name);
        if (strncmp(line, name, head) != 0 || line[head] != ' ')
            continue;
        guint8 *data = vector_from_hex(line + head + 1, &size);
        g_assert_cmpuint(size, ==, len);
        return data;
    }
    g_error("no vector %s", name);
}
