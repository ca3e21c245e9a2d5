"""The logs that the shipped controller's constants were chosen on: every third of Sabre's Norway 3G logs, by
name. The lab leaves them out of what it reports. The three traces that ship (`lab/traces`, under other names)
are among these logs: without `--traces` the lab runs on what it was tuned on. Generated links were looked at
with seed 4 only; docs/width-control.md has the rule for fresh ones.
"""

TUNED_ON = frozenset(
    {
        "report.2010-09-13_1003CEST",
        "report.2010-09-20_1542CEST",
        "report.2010-09-28_1003CEST",
        "report.2010-09-29_1622CEST",
        "report.2010-09-30_1058CEST",
        "report.2010-10-18_0951CEST",
        "report.2010-11-16_1857CET",
        "report.2010-11-23_1606CET",
        "report.2010-12-16_1149CET",
        "report.2010-12-21_1200CET",
        "report.2010-12-22_0849CET",
        "report.2011-01-29_1800CET",
        "report.2011-01-31_1025CET",
        "report.2011-02-01_0629CET",
        "report.2011-02-01_1539CET",
        "report.2011-02-02_1345CET",
        "report.2011-02-14_0644CET",
        "report.2011-02-14_2051CET",
        "report.2011-02-14_2139CET",
    }
)
