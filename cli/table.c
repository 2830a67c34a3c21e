/* Tables on a terminal whose cells are not ours.
 *
 * Names, versions and error texts come from other machines, and a terminal obeys what it is sent: an escape
 * sequence in a host name could rewrite the line above, or answer as if it had been typed. So nothing reaches
 * the terminal but printable characters. Format characters count as dangerous, too: those that turn the
 * direction of writing make one name look like another. A backslash is doubled, so that what is escaped can
 * be told from what looks so. This holds for pipes as well: what a script reads is later shown by somebody.
 *
 * Cells are cut at a fixed number of characters: one machine's long story must not push the others from the
 * screen. --json tells it whole.
 *
 * Widths are counted in terminal columns. Trusts nothing about the text, not even that it is UTF-8. */
#include "cli/table.h"

#define CELL_MAX 96

struct _CbusTable {
    const char *const *headings;
    guint columns;
    GPtrArray *cells;
};

static gboolean
is_harmless(gunichar c)
{
    switch (g_unichar_type(c)) {
        case G_UNICODE_CONTROL:
        case G_UNICODE_FORMAT:
        case G_UNICODE_UNASSIGNED:
        case G_UNICODE_PRIVATE_USE:
        case G_UNICODE_SURROGATE:
        case G_UNICODE_LINE_SEPARATOR:
        case G_UNICODE_PARAGRAPH_SEPARATOR:
            return FALSE;
        default:
            return c != '\\';
    }
}

char *
cbus_text_escape(const char *text, guint max)
{
    GString *out = g_string_new(NULL);
    gsize left = strlen(text);
    guint characters = 0;

    while (left > 0) {
        gunichar c = g_utf8_get_char_validated(text, (gssize)left);
        gboolean valid = c != (gunichar)-1 && c != (gunichar)-2;
        gsize step = valid ? g_utf8_skip[*(const guchar *)text] : 1;

        if (max > 0 && characters++ == max) {
            g_string_append(out, "…");
            break;
        }
        if (!valid)
            g_string_append_printf(out, "\\x%02x", *(const guchar *)text);
        else if (is_harmless(c))
            g_string_append_len(out, text, (gssize)step);
        else if (c == '\\')
            g_string_append(out, "\\\\");
        else
            g_string_append_printf(out, c < 0x80 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
        text += step;
        left -= step;
    }
    return g_string_free(out, FALSE);
}

CbusTable *
cbus_table_new(const char *const *headings)
{
    CbusTable *table = g_new0(CbusTable, 1);

    table->headings = headings;
    while (headings[table->columns] != NULL)
        table->columns++;
    table->cells = g_ptr_array_new_with_free_func(g_free);
    return table;
}

void
cbus_table_free(CbusTable *table)
{
    if (table == NULL)
        return;
    g_ptr_array_unref(table->cells);
    g_free(table);
}

void
cbus_table_add(CbusTable *table, const char *text)
{
    g_ptr_array_add(table->cells, cbus_text_escape(text, CELL_MAX));
}

static guint
text_width(const char *text)
{
    guint width = 0;

    for (; *text != '\0'; text = g_utf8_next_char(text)) {
        gunichar c = g_utf8_get_char(text);

        width += g_unichar_iszerowidth(c) ? 0 : g_unichar_iswide(c) ? 2 : 1;
    }
    return width;
}

static void
append_row(GString *out, const char *const *cells, const guint *widths, guint columns)
{
    gsize end = out->len;

    for (guint i = 0; i < columns; i++) {
        g_string_append(out, cells[i]);
        if (cells[i][0] != '\0')
            end = out->len;
        g_string_append_printf(out, "%*s", (int)(widths[i] - text_width(cells[i]) + 2), "");
    }
    g_string_truncate(out, end);
    g_string_append_c(out, '\n');
}

char *
cbus_table_render(const CbusTable *table)
{
    g_autofree guint *widths = g_new0(guint, table->columns);
    guint rows = table->cells->len / table->columns;
    GString *out = g_string_new(NULL);

    for (guint i = 0; i < table->columns; i++)
        widths[i] = text_width(table->headings[i]);
    for (guint i = 0; i < rows * table->columns; i++) {
        guint column = i % table->columns;

        widths[column] = MAX(widths[column], text_width(table->cells->pdata[i]));
    }
    append_row(out, table->headings, widths, table->columns);
    for (guint row = 0; row < rows; row++)
        append_row(out, (const char *const *)table->cells->pdata + row * table->columns, widths,
                   table->columns);
    return g_string_free(out, FALSE);
}
