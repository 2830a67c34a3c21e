/* Settings: flags beat the environment, the environment beats the file, the file beats the default (design,
 * "The contract"). */
#pragma once
#include <glib.h>

typedef struct {
    const char *name;        /* the long option, and the key in the file: "authorized-keys" */
    const char *environment; /* or NULL */
    const char *fallback;    /* or NULL */
    const char *description;
    const char *argument; /* placeholder for help; NULL: a flag without argument (value "true") */
} CbusSetting;

typedef struct _CbusSettings CbusSettings;
/* Parses ARGV with GOption ("--config FILE" is added by itself; FILES are the default configuration files,
 * first that exists wins, NULL-terminated; a file named by
 * --config must exist). GROUP is the key-file group; groups "policy NAME" and "gateway" are left to others if
 * it is "agent". Unknown keys in the file are an error with file, group and key; a word left over on the
 * command line is an error too. TABLE ends with a NULL name. */
CbusSettings *cbus_settings_parse(const CbusSetting *table, const char *group, const char *const *files,
                                  const char *summary, int *argc, char ***argv,
                                  GError **error) G_GNUC_WARN_UNUSED_RESULT;
void cbus_settings_free(CbusSettings *settings);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusSettings, cbus_settings_free)
/* The configuration file that counted; NULL: there was none. Borrowed. */
const char *cbus_settings_file(const CbusSettings *settings);
const char *cbus_settings_get(const CbusSettings *settings, const char *name); /* NULL when unset */
gboolean cbus_settings_flag(const CbusSettings *settings, const char *name);
