/* SPDX-License-Identifier: MIT */
/* field_urcu.h - contenders whose readers are liburcu-qsbr's. */
#ifndef BENCH_FIELD_URCU_H
#define BENCH_FIELD_URCU_H

#include <urcu/urcu-qsbr.h>

#include "field.h"

/* field_urcu.c */
bool field_urcu_open(const struct field_setting *setting);
bool field_urcu_enter(unsigned number);
void field_urcu_leave(unsigned number);

#define URCU_READERS URCU_READERS_WITH(field_urcu_enter, field_urcu_leave)
#define URCU_READERS_WITH(ENTER, LEAVE)                                                                      \
    .enter = (ENTER), .leave = (LEAVE), .quiescent = urcu_qsbr_quiescent_state,                              \
    .offline = urcu_qsbr_thread_offline, .online = urcu_qsbr_thread_online

#endif /* BENCH_FIELD_URCU_H */
