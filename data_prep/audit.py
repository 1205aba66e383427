"""The audit of labels, under the name it had before: `python -m data_prep.audit` runs eval/label_audit.py."""

import runpy

if __name__ == "__main__":
    runpy.run_module("eval.label_audit", run_name="__main__", alter_sys=True)
