#!/usr/bin/env python3
"""Tests of the comparison itself: an oracle that accepts wrong answers is worse than none."""

import environment

environment.enter()

import datetime  # noqa: E402
import unittest  # noqa: E402
from decimal import Decimal  # noqa: E402

import pyarrow as pa  # noqa: E402

import tpch  # noqa: E402
from results import compare  # noqa: E402


def table(**columns) -> pa.Table:
    return pa.table(columns)


def decimals(scale: int, *values: str) -> pa.Array:
    return pa.array([Decimal(value) for value in values], pa.decimal128(38, scale))


class Comparison(unittest.TestCase):
    def assert_equal(self, left: pa.Table, right: pa.Table, order=()):
        self.assertEqual(compare(left, right, order), [])
        self.assertEqual(compare(right, left, order), [])

    def assert_different(self, left: pa.Table, right: pa.Table, order=()):
        self.assertNotEqual(compare(left, right, order), [])
        self.assertNotEqual(compare(right, left, order), [])

    def test_rows_in_any_order_agree(self):
        self.assert_equal(table(a=[1, 2, None], b=["x", "y", None]), table(a=[None, 2, 1], b=[None, "y", "x"]))

    def test_duplicates_count(self):
        self.assert_different(table(a=[1, 1, 2]), table(a=[1, 2, 2]))
        self.assert_different(table(a=[1, 1]), table(a=[1]))

    def test_decimals_are_exact_across_precision_and_scale(self):
        self.assert_equal(table(a=decimals(2, "1.50", "2.00")), table(a=decimals(4, "2.0000", "1.5000")))
        self.assert_equal(table(a=decimals(0, "7")), table(a=pa.array([7], pa.int64())))
        self.assert_different(table(a=decimals(4, "1.5000")), table(a=decimals(4, "1.5001")))

    def test_large_decimals_do_not_pass_through_floats(self):
        self.assert_different(
            table(a=decimals(4, "12345678901234567890.0001")), table(a=decimals(4, "12345678901234567890.0002"))
        )

    def test_floats_within_the_relative_tolerance_agree(self):
        self.assert_equal(table(a=[1e9]), table(a=[1e9 + 0.5]))
        self.assert_different(table(a=[1e9]), table(a=[1e9 + 2.0]))
        self.assert_different(table(a=[0.0]), table(a=[1e-12]))

    def test_a_decimal_may_be_cut_or_rounded_in_its_last_place(self):
        self.assert_equal(table(a=[25.5220058]), table(a=decimals(6, "25.522005")))
        self.assert_equal(table(a=[25.5220058]), table(a=decimals(6, "25.522006")))
        self.assert_different(table(a=[25.5220058]), table(a=decimals(6, "25.522008")))

    def test_null_and_nan_equal_only_themselves(self):
        self.assert_equal(table(a=[None, float("nan"), 1.0]), table(a=[1.0, None, float("nan")]))
        self.assert_different(table(a=pa.array([None], pa.float64())), table(a=[0.0]))
        self.assert_different(table(a=[float("nan")]), table(a=[0.0]))
        self.assert_different(table(a=pa.array([None], pa.string())), table(a=[""]))

    def test_floats_are_matched_within_rows_that_agree_otherwise(self):
        left = table(k=["a", "a", "b"], v=[1.0, 2.0, 3.0])
        self.assert_equal(left, table(k=["b", "a", "a"], v=[3.0, 2.0, 1.0 + 1e-12]))
        self.assert_different(left, table(k=["b", "a", "a"], v=[1.0, 2.0, 3.0]))

    def test_matching_does_not_depend_on_the_first_partner_that_fits(self):
        # 1.0 fits both, 1.0 + 1.5e-9 only the second: taking the second for 1.0 must be undone.
        self.assert_equal(
            table(v=[1.0, 1.0 + 1.5e-9], w=[5.0, 1.0]),
            table(v=[1.0 + 0.8e-9, 1.0 + 0.9e-9], w=[1.0, 5.0]),
        )

    def test_order_by_columns_run_in_sequence(self):
        left = table(k=[1, 1, 2], v=["a", "b", "c"])
        self.assert_equal(left, table(k=[1, 1, 2], v=["b", "a", "c"]), order=(0,))
        self.assert_different(left, table(k=[2, 1, 1], v=["c", "b", "a"]), order=(0,))

    def test_types_of_different_families_do_not_agree(self):
        day = datetime.date(1995, 3, 15)
        self.assert_different(table(a=[day]), table(a=[str(day)]))
        self.assert_different(table(a=[1]), table(a=["1"]))
        self.assert_equal(table(a=pa.array(["x"], pa.string_view())), table(a=pa.array(["x"], pa.large_string())))

    def test_column_names_agree_but_for_case(self):
        self.assert_equal(table(A=[1]), table(a=[1]))
        self.assert_different(table(a=[1]), table(b=[1]))

    def test_empty_answers_agree(self):
        self.assert_equal(table(a=pa.array([], pa.int64())), table(a=pa.array([], pa.int32())))


class Qualification(unittest.TestCase):
    def test_only_tables_are_qualified(self):
        (nine,) = tpch.select("9")
        sql = nine.sql("lake.tpch")
        self.assertIn("from lake.tpch.part, lake.tpch.supplier, lake.tpch.lineitem, ", sql)
        self.assertIn("lake.tpch.orders, lake.tpch.nation", sql)
        self.assertIn("n_name as nation", sql)
        self.assertIn("group by nation, o_year", sql)

    def test_every_query_names_its_tables(self):
        for query in tpch.queries():
            self.assertIn("lake.tpch.", query.sql("lake.tpch"), query.name)


if __name__ == "__main__":
    unittest.main()
