from twinsplit.reckoning import expected_queue_length


def test_what_arrives_while_a_task_is_in_service_waits() -> None:
    assert expected_queue_length(2, 4.0, 0.5, is_serving=True) == 4.0


def test_an_idle_device_has_told_of_all_that_arrived() -> None:
    assert expected_queue_length(0, 4.0, 60.0, is_serving=False) == 0.0


def test_a_report_from_the_future_counts_as_now() -> None:
    assert expected_queue_length(1, 4.0, -0.1, is_serving=True) == 1.0
