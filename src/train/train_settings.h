/* SPDX-License-Identifier: MIT
 * What a run was asked for: defaults, the record in run.json, and whether a resumed run may be asked for that. */
#ifndef LB_TRAIN_TRAIN_SETTINGS_H
#define LB_TRAIN_TRAIN_SETTINGS_H

#include <jansson.h>

#include "lowbit/train.h"
#include "model/config.h"
#include "train/schedule.h"

/* Everything that is given, as an object; numbers and names that are not given are not in it. */
json_t *lb_train_settings_json(const lb_train_options *options);

/* Fills in what is not given of a branch from the settings of the run that it branches off, but for what is that run's
 * alone (where it began itself, which states are kept). Names then point into `parent`. */
lb_status lb_train_settings_inherit(lb_train_options *options, const json_t *parent, lb_error *err);

/* Fills in what is not given: from `record` (NULL: a new run), then by default. Refuses what is given otherwise than
 * the record has it, but for what a resumed run may change: how long it is, and how the learning rate ends.
 * Names then point into the record, or are constants. */
lb_status lb_train_settings_resolve(lb_train_options *options, const json_t *record, lb_error *err);

/* Of resolved options. */
lb_status lb_train_schedule(const lb_train_options *options, lb_schedule *out, lb_error *err);

/* The model's config.json: from the file, the numbers, or by default; *config is what it says (json_decref *out). */
lb_status lb_train_config(const lb_train_options *options, json_t **out, lb_config *config, lb_error *err);

#endif
