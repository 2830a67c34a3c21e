/* Arguments of a method call from the words of a command line. */
#pragma once
#include <gio/gio.h>

typedef enum {
    CBUS_ARGUMENTS_ERROR_SIGNATURE, /* not a D-Bus signature, or one that can not cross (h) */
    CBUS_ARGUMENTS_ERROR_VALUE,     /* a word or a JSON value that is none of its type */
    CBUS_ARGUMENTS_ERROR_COUNT,     /* too few or too many */
} CbusArgumentsError;
#define CBUS_ARGUMENTS_ERROR (cbus_arguments_error_quark())
GQuark cbus_arguments_error_quark(void);

/* WORDS (NULL-terminated) as busctl call takes them after SIGNATURE: arrays begin with their length, variants
 * with their type. A tuple. (transfer full) */
GVariant *cbus_arguments_parse(const char *signature, char **words, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* JSON: an array with a value for each type of SIGNATURE; variants are {"type":…,"data":…}. A tuple.
 * (transfer full) */
GVariant *cbus_arguments_from_json(const char *signature, const char *json,
                                   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* SIGNATURE as the type of a tuple, or NULL with ERROR. (transfer full) */
GVariantType *cbus_arguments_type(const char *signature, GError **error) G_GNUC_WARN_UNUSED_RESULT;
