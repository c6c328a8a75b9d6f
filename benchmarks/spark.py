"""An export on Spark, two cores of it: the whole job beside the rule alone in Spark SQL.

python -m benchmarks.spark measures only this.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import bulk
from benchmarks.cql_engines import AbsentError

_SCHEMA = (
    "status string, subject struct<reference string>, effectiveDateTime string, "
    "code struct<coding array<struct<code string>>>, valueQuantity struct<value decimal(18,6)>"
)
_NEWEST = """
SELECT subject.reference AS patient, code.coding[0].code AS code,
       max_by(valueQuantity.value, effectiveDateTime) AS value
FROM observations
WHERE status = 'final' AND code.coding[0].code IN ('751-8', '777-3', '718-7', '60474-4')
GROUP BY ALL
"""
_VERDICTS = f"""
WITH newest AS ({_NEWEST}), lineages AS (
    SELECT patient,
           max(value) FILTER (WHERE code = '751-8') <= 1.2 AS neutrophils,
           max(value) FILTER (WHERE code = '777-3') <= 70 AS platelets,
           max(value) FILTER (WHERE code = '718-7') <= 8.5
               AND max(value) FILTER (WHERE code = '60474-4') <= 60 AS red_cells
    FROM newest GROUP BY patient
)
SELECT *, int(neutrophils) + int(platelets) + int(red_cells) >= 2 AS eligible FROM lineages
"""  # noqa: S608 made of constants


@contextmanager
def session() -> Iterator[Any]:
    """A Spark session on two cores, reachable from this machine only."""
    if not find_spec("pyspark") or not shutil.which("java"):
        raise AbsentError("pyspark or Java is not installed here")
    from pyspark.sql import SparkSession  # noqa: PLC0415 may be absent

    os.environ |= {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
    settings = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        # The default of 200 is for clusters: on two cores it would slow Spark SQL.
        "spark.sql.shuffle.partitions": "4",
    }
    builder = SparkSession.builder.master("local[2]").appName("benchmark")
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    try:
        yield spark
    finally:
        spark.stop()


def _ours(spark: Any, source: Path, out: Path) -> None:
    from app.asking import ASSESS_ELIGIBILITY  # noqa: PLC0415
    from app.bulk.judging import Order  # noqa: PLC0415 may be absent
    from app.bulk.spark import assess  # noqa: PLC0415 needs pyspark

    assess(spark, [source], Order(ASSESS_ELIGIBILITY, (), 30), out)


def _spark_sql(spark: Any, source: Path, out: Path) -> None:
    files = [str(file) for file in sorted(source.glob("Observation*.ndjson"))]
    spark.read.schema(_SCHEMA).json(files).createOrReplaceTempView("observations")
    spark.sql(_VERDICTS).write.parquet(str(out))


CONTENDERS: dict[str, Callable[[Any, Path, Path], None]] = {
    "Spark": _ours,
    "Spark SQL": _spark_sql,
}


def seconds_in_turn(rounds: int) -> dict[str, list[float]]:
    """The seconds of each contender in each round, in one session that is warm.

    Ours writes its complete results, Spark SQL its table of verdicts. Raises AbsentError where
    there is no Spark.
    """
    found: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    source = bulk.ward()
    with session() as spark:
        for turn in range(rounds + 1):
            for name, call in CONTENDERS.items():
                out = bulk.FOLDER / "out-spark"
                shutil.rmtree(out, ignore_errors=True)
                start = time.perf_counter()
                call(spark, source, out)
                if turn:
                    found[name].append(time.perf_counter() - start)
    return found


if __name__ == "__main__":
    for contender, seconds in seconds_in_turn(5).items():
        print(contender, " ".join(f"{one:.2f}" for one in seconds))  # noqa: T201 the answer
