/* authorized-keys text: who may hold a link, and which line says so (design, "Who may do what").
 *
 * A line is [OPTIONS] KEY [COMMENT]; OPTIONS are comma-separated NAME or NAME="VALUE", KEY is "ssh-ed25519
 * BASE64" or a public NKey. A line with a fault authorizes nobody and is reported; the others stand. */
#pragma once
#include "wire/key.h"
#include "wire/policy.h"

#define CBUS_AUTHORIZED_FILE_MAX     (1024 * 1024) /* bytes of the whole text */
#define CBUS_AUTHORIZED_LINE_MAX     (16 * 1024)   /* bytes of one line */
#define CBUS_AUTHORIZED_DIGEST_BYTES 32

typedef struct {
    CbusKey key;
    guint number; /* 1 for the first line */
    /* Of the line without the white space around it: differs when the line says anything else. */
    guint8 digest[CBUS_AUTHORIZED_DIGEST_BYTES];
    GHashTable *options; /* char * name → char * value; a NULL value: named without one. NULL: no options */
    const char *policy;  /* the value of policy="…", in OPTIONS; NULL: what the bus allows */
    const char *user;    /* user="NAME": whose connections, in OPTIONS; NULL: not said */
    char *comment;       /* UTF-8 is not promised; "" when there is none */
} CbusAuthorizedLine;

typedef struct _CbusAuthorizedKeys CbusAuthorizedKeys;

/* One refused line; REASON says what is wrong and what to do. */
typedef void (*CbusAuthorizedFault)(guint number, const char *reason, gpointer user_data);

/* Reads LEN bytes of TEXT. FAULT (may be NULL) is called for each refused line, in order. Text over
 * CBUS_AUTHORIZED_FILE_MAX is one fault of line 0, and authorizes nobody. Never fails otherwise.
 * Returns: (transfer full). Any thread. */
CbusAuthorizedKeys *cbus_authorized_keys_parse(const char *text, gsize len, CbusAuthorizedFault fault,
                                               gpointer user_data);
void cbus_authorized_keys_free(CbusAuthorizedKeys *keys);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusAuthorizedKeys, cbus_authorized_keys_free)

/* Refuses each line with a policy that POLICIES does not have. */
void cbus_authorized_keys_require(CbusAuthorizedKeys *keys, const CbusPolicies *policies,
                                  CbusAuthorizedFault fault, gpointer user_data);
/* Refuses, and reports to FAULT, each line for which JUDGE returns a reason (transfer full). */
void cbus_authorized_keys_judge(CbusAuthorizedKeys *keys,
                                char *(*judge)(const CbusAuthorizedLine *line, gpointer judge_data),
                                gpointer judge_data, CbusAuthorizedFault fault, gpointer user_data);

guint cbus_authorized_keys_size(const CbusAuthorizedKeys *keys);
/* By position, 0 to size − 1, in the order of the text. Borrowed. */
const CbusAuthorizedLine *cbus_authorized_keys_nth(const CbusAuthorizedKeys *keys, guint position);
/* The line of KEY, borrowed, or NULL. */
const CbusAuthorizedLine *cbus_authorized_keys_lookup(const CbusAuthorizedKeys *keys, const CbusKey *key);
