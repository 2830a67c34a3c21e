/* A policy applied to one channel (design, "Judging a message"). Loop thread only. */
#pragma once
#include "agent/census.h"
#include "wire/policy_decide.h"

/* Serials from here on are the filter's own; a client of the channel must not use them. */
#define CBUS_FILTER_SERIAL CBUS_CENSUS_SERIAL

typedef struct _CbusFilter CbusFilter;

typedef enum {
    CBUS_FILTER_SENT,
    CBUS_FILTER_REFUSED, /* it was answered instead, or needs no answer */
    CBUS_FILTER_ENDED,   /* the channel ended over it: the filter is gone */
} CbusFilterSent;

typedef struct {
    /* MESSAGE of the client goes to the bus. */
    CbusFilterSent (*forward)(const CbusMessage *message, const guint8 *data, gpointer user_data);
    /* A message of the filter's own goes to the bus. */
    void (*ask)(const guint8 *data, gsize size, gpointer user_data);
    /* A message goes to the client. FALSE: the channel ended over it, and the filter is gone. */
    gboolean (*deliver)(const guint8 *data, gsize size, gpointer user_data);
    /* MESSAGE of the client is not forwarded; an answer follows by deliver(). */
    void (*denied)(const CbusMessage *message, const char *reason, gpointer user_data);
    /* Judging begins; until then messages wait. */
    void (*ready)(gpointer user_data);
    /* The channel can not go on: end it, and with it the filter. */
    void (*failed)(const char *error_name, const char *message, gpointer user_data);
} CbusFilterHandler;

/* POLICY: a reference is taken. MACHINE: its name, for errors; outlives the filter. The client's first
 * message must be its Hello. */
CbusFilter *cbus_filter_new(const CbusPolicy *policy, const char *machine, const CbusFilterHandler *handler,
                            gpointer user_data);
void cbus_filter_free(CbusFilter *filter);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusFilter, cbus_filter_free)
/* Counts from the next message on. */
void cbus_filter_set_policy(CbusFilter *filter, const CbusPolicy *policy);

/* A message of the client, its body checked. FALSE: the channel ended. */
gboolean cbus_filter_from_client(CbusFilter *filter, const CbusMessage *message, const guint8 *data);
/* A message of the bus, its body checked. May end the channel: touch nothing afterwards. */
void cbus_filter_from_bus(CbusFilter *filter, const CbusMessage *message, const guint8 *data);
/* TRUE if the object at PATH of NAME, when it runs, may be introspected. Once ready. */
gboolean cbus_filter_shows(const CbusFilter *filter, const char *name, const char *path);
gboolean cbus_filter_is_ready(const CbusFilter *filter);
