/* The tokens of JSON: what json_read.c reads values from. */
#pragma once
#include "wire/json.h"

typedef struct {
    const char *text; /* UTF-8 without NUL */
    gsize at, len;
    GString *string; /* the last string or number */
    GError **error;
} CbusJsonScan;

/* Says what is wrong, and where. FALSE. */
gboolean cbus_json_scan_fail(CbusJsonScan *scan, CbusJsonError code, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
/* The next byte that is no white space; 0 at the end. */
char cbus_json_scan_peek(CbusJsonScan *scan);
/* TRUE if C comes next, and takes it. */
gboolean cbus_json_scan_take(CbusJsonScan *scan, char c);
/* The same; it is an error when something else comes. */
gboolean cbus_json_scan_expect(CbusJsonScan *scan, char c) G_GNUC_WARN_UNUSED_RESULT;
/* TRUE if WORD stands here, and takes it. */
gboolean cbus_json_scan_word(CbusJsonScan *scan, const char *word);
gboolean cbus_json_scan_string(CbusJsonScan *scan) G_GNUC_WARN_UNUSED_RESULT;
/* JSON's own spelling of a number. */
gboolean cbus_json_scan_number(CbusJsonScan *scan) G_GNUC_WARN_UNUSED_RESULT;
/* Steps over one value, whatever it is: brackets and strings alone are looked at. Who reads it later finds
 * its faults. */
gboolean cbus_json_scan_skip(CbusJsonScan *scan) G_GNUC_WARN_UNUSED_RESULT;
