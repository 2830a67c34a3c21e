/* The NATS subjects of CBus: the one file that spells them (design, "NATS"). Written to buffers, so that the
 * hot path needs no allocation. */
#pragma once
#include "wire/key.h"

#define CBUS_SUBJECT_MAX      192
#define CBUS_SUBJECT_WHO      "cbus.v1.who"
#define CBUS_SUBJECT_HERE_ALL "cbus.v1.*.here"

void cbus_subject_hello(char out[CBUS_SUBJECT_MAX], const CbusKey *agent);
void cbus_subject_in(char out[CBUS_SUBJECT_MAX], const CbusKey *agent, const CbusInstance *instance);
/* AGENT NULL: the wildcard that a proxy subscribes to. */
void cbus_subject_out(char out[CBUS_SUBJECT_MAX], const CbusKey *agent, const CbusKey *proxy,
                      const CbusInstance *instance);
void cbus_subject_gone(char out[CBUS_SUBJECT_MAX], const CbusKey *agent, const CbusKey *proxy,
                       const CbusInstance *instance);
void cbus_subject_here(char out[CBUS_SUBJECT_MAX], const CbusKey *agent);

/* The agent named in cbus.v1.<agent>.(out|gone|here)…; FALSE for anything else. */
gboolean cbus_subject_agent(const char *subject, CbusKey *agent) G_GNUC_WARN_UNUSED_RESULT;
