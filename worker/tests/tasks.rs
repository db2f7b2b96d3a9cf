//! The life of tasks, in every order of events.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use inshore_proto::error::{Code, RetryVerdict, WireError};
use inshore_proto::task::TaskId;
use inshore_worker::tasks::Tasks;
use uuid::Uuid;

const LONG: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(30);

fn id(query: u128, task: usize) -> TaskId {
    TaskId {
        query_id: Uuid::from_u128(query),
        stage: 1,
        task,
    }
}

fn bad_plan() -> WireError {
    WireError::new(Code::InvalidArgument, RetryVerdict::Never, "bad plan")
}

async fn code(tasks: &Tasks, id: TaskId) -> Option<Code> {
    tasks.wait(id, SHORT).await.err().map(|error| error.code)
}

#[tokio::test]
async fn partitions_may_be_asked_for_before_the_plan_comes() {
    let tasks = Tasks::default();
    let waiting = {
        let tasks = tasks.clone();
        tokio::spawn(async move { tasks.wait(id(1, 0), LONG).await })
    };
    tokio::task::yield_now().await;
    assert_eq!(tasks.running(), 0, "expected tasks do not run");
    let starting = tasks.begin(id(1, 0)).unwrap();
    let channel = starting.channel_guard();
    assert_eq!(tasks.running(), 1);
    assert!(!waiting.is_finished());
    starting.run();
    let over = waiting.await.unwrap().unwrap();
    assert!(!over.is_cancelled());
    drop(channel);
    assert!(over.is_cancelled());
    assert_eq!(tasks.running(), 0);
    // Whoever comes late is told at once.
    assert_eq!(
        tasks.wait(id(1, 0), LONG).await.unwrap_err().code,
        Code::Cancelled
    );
}

#[tokio::test]
async fn waiting_for_a_plan_has_an_end_and_leaves_nothing() {
    let tasks = Tasks::default();
    let error = tasks.wait(id(1, 0), SHORT).await.unwrap_err();
    assert_eq!(
        (error.code, error.retry),
        (Code::Unavailable, RetryVerdict::Retry)
    );
    assert!(tasks.queries().is_empty());
    // Giving up earlier leaves nothing either.
    let _ = tokio::time::timeout(SHORT, tasks.wait(id(2, 0), LONG))
        .await
        .unwrap_err();
    assert!(tasks.queries().is_empty());
    // And the plan may still come.
    let starting = tasks.begin(id(1, 0)).unwrap();
    let _channel = starting.channel_guard();
    starting.run();
    assert_eq!(code(&tasks, id(1, 0)).await, None);
}

#[tokio::test]
async fn the_reason_of_a_bad_plan_wins_over_the_end_of_the_channel() {
    let tasks = Tasks::default();
    let waiting = {
        let tasks = tasks.clone();
        tokio::spawn(async move { tasks.wait(id(1, 0), LONG).await })
    };
    tokio::task::yield_now().await;
    let starting = tasks.begin(id(1, 0)).unwrap();
    drop(starting.channel_guard());
    starting.fail(bad_plan());
    assert_eq!(waiting.await.unwrap().unwrap_err(), bad_plan());
    assert_eq!(tasks.wait(id(1, 0), LONG).await.unwrap_err(), bad_plan());
    assert_eq!(tasks.running(), 0);
}

#[tokio::test]
async fn a_channel_that_ends_while_the_plan_is_set_ends_the_task() {
    let tasks = Tasks::default();
    let starting = tasks.begin(id(1, 0)).unwrap();
    drop(starting.channel_guard());
    assert_eq!(tasks.running(), 1);
    starting.run();
    assert_eq!(tasks.running(), 0);
    assert_eq!(code(&tasks, id(1, 0)).await, Some(Code::Cancelled));
}

#[tokio::test]
async fn a_start_that_is_given_up_ends_the_task() {
    let tasks = Tasks::default();
    drop(tasks.begin(id(1, 0)).unwrap());
    assert_eq!(tasks.running(), 0);
    assert_eq!(code(&tasks, id(1, 0)).await, Some(Code::Cancelled));
}

#[tokio::test]
async fn a_task_begins_once() {
    let tasks = Tasks::default();
    let starting = tasks.begin(id(1, 0)).unwrap();
    let channel = starting.channel_guard();
    assert_eq!(
        tasks.begin(id(1, 0)).err().unwrap().code,
        Code::InvalidArgument
    );
    starting.run();
    assert_eq!(
        tasks.begin(id(1, 0)).err().unwrap().code,
        Code::InvalidArgument
    );
    assert_eq!(tasks.running(), 1);
    drop(channel);
    assert_eq!(tasks.begin(id(1, 0)).err().unwrap().code, Code::Cancelled);
}

#[tokio::test]
async fn cancelling_a_query_ends_its_tasks_and_those_still_to_come() {
    let tasks = Tasks::default();
    let running = tasks.begin(id(1, 0)).unwrap();
    let channel = running.channel_guard();
    running.run();
    let over = tasks.wait(id(1, 0), LONG).await.unwrap();
    let starting = tasks.begin(id(1, 1)).unwrap();
    let other = tasks.begin(id(2, 0)).unwrap();
    let _other_channel = other.channel_guard();
    other.run();
    assert_eq!(tasks.cancel_query(Uuid::from_u128(1)), 2);
    assert!(over.is_cancelled());
    assert!(starting.cancelled().is_cancelled());
    assert_eq!(tasks.running(), 1);
    // What follows of the ended tasks changes nothing.
    starting.run();
    drop(channel);
    assert_eq!(tasks.running(), 1);
    assert_eq!(code(&tasks, id(1, 1)).await, Some(Code::Cancelled));
    assert_eq!(tasks.begin(id(1, 7)).err().unwrap().code, Code::Cancelled);
    assert_eq!(code(&tasks, id(1, 8)).await, Some(Code::Cancelled));
    assert_eq!(code(&tasks, id(2, 0)).await, None);
}

#[tokio::test]
async fn an_aborted_task_is_over_for_those_who_wait_and_those_who_come() {
    let tasks = Tasks::default();
    let waiting = {
        let tasks = tasks.clone();
        tokio::spawn(async move { tasks.wait(id(1, 0), LONG).await })
    };
    tokio::task::yield_now().await;
    tasks.abort(id(1, 0), bad_plan());
    assert_eq!(waiting.await.unwrap().unwrap_err(), bad_plan());
    assert_eq!(tasks.wait(id(1, 0), LONG).await.unwrap_err(), bad_plan());
    // A running task is not aborted by a message that has lost its way.
    let starting = tasks.begin(id(1, 1)).unwrap();
    let _channel = starting.channel_guard();
    starting.run();
    tasks.abort(id(1, 1), bad_plan());
    assert_eq!(code(&tasks, id(1, 1)).await, None);
}

#[tokio::test]
async fn idle_waits_for_the_last_task() {
    let tasks = Tasks::default();
    tasks.idle().await;
    let starting = tasks.begin(id(1, 0)).unwrap();
    let channel = starting.channel_guard();
    starting.run();
    assert!(tokio::time::timeout(SHORT, tasks.idle()).await.is_err());
    drop(channel);
    tokio::time::timeout(LONG, tasks.idle()).await.unwrap();
}
