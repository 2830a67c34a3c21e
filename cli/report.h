/* What many machines answered, for people or as JSON. */
#pragma once
#include "cli/fleet.h"

typedef enum {
    CBUS_REPORT_VALUE, /* the answer is one variant: show what is in it */
    CBUS_REPORT_BODY,  /* show all values of the answer */
    CBUS_REPORT_WAIT,  /* as VALUE, of machines that got there */
} CbusReportKind;

typedef struct _CbusReport CbusReport;

/* All arguments are borrowed for its life. */
CbusReport *cbus_report_new(CbusReportKind kind, const CbusFleetOptions *options, const GPtrArray *machines,
                            const CbusFleetCall *call);
void cbus_report_free(CbusReport *report);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusReport, cbus_report_free)

/* The INDEXth machine's answer: printed now, or when its turn comes. */
void cbus_report_add(CbusReport *report, guint index, const CbusFleetAnswer *answer);
/* Prints what is left, names who failed on standard error. */
CbusExit cbus_report_end(CbusReport *report);
