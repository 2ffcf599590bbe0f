//! The contract suite: one async function per guarantee written on the traits. Every engine must pass all
//! of them; [`crate::contract_tests`] turns them into tests.
//!
//! Owns: the meaning of the guarantees, as code. Must not know: any engine's insides.
#![allow(missing_docs, reason = "each function's name is the guarantee it checks")]

pub mod bus;
pub mod conversations;
pub mod cursors;
pub mod fences;
pub mod limits;
pub mod log;
pub mod members;
pub mod nodes;
pub mod overviews;
pub mod presence;
pub mod ranges;
pub mod rooms;
pub mod sequences;
pub mod trail;
pub mod typing;

use std::time::Duration;

use async_trait::async_trait;
use parlance_model::{
    Author, Conversation, ConversationId, ConversationKind, Head, LogKey, Message, Time, Topic, UserId,
};

use crate::{Appended, Backplane, Change, Delivery, Inbox, MemberSet, Publication, Stored};

/// An engine under test: fresh and empty for each guarantee.
#[async_trait]
pub trait Rig: Send + Sync {
    /// So many nodes over the one shared backplane.
    async fn nodes(&self, count: usize) -> Vec<Backplane>;

    /// The same, where a trail of everything is kept, over a backplane of its own.
    async fn keeping(&self, count: usize) -> Vec<Backplane> {
        self.keeping_for(count, &[]).await
    }

    /// And kept for these consumers from the beginning.
    async fn keeping_for(&self, count: usize, groups: &[&'static str]) -> Vec<Backplane>;

    /// Lets the engine's time pass (really sleeping where the clock is not the rig's).
    async fn advance(&self, by: Duration);

    /// The engine's time.
    async fn now(&self) -> Time;

    /// Publications an inbox holds at most before it says `Lost`.
    fn inbox_capacity(&self) -> usize;

    /// Entries a log keeps (trimming may lag behind); at most a few hundred.
    fn retention_entries(&self) -> u64;
}

/// Defines one test per guarantee. The argument is an expression that gives a future of a fresh [`Rig`];
/// it is evaluated in each test.
#[macro_export]
macro_rules! contract_tests {
    ($rig:expr) => {
        $crate::contract_tests! { @each $rig;
            bus::signals_reach_subscribers_and_nobody_else,
            bus::an_overflowing_inbox_says_lost_and_goes_on,
            bus::unsubscribed_topics_fall_silent,
            conversations::changes_are_seen_and_logged,
            conversations::a_change_of_nothing_appends_nothing,
            conversations::only_create_leaves_an_existing_one_alone,
            conversations::the_index_of_users_agrees_with_the_members,
            conversations::numbers_are_never_used_twice,
            conversations::digit_ids_are_their_own_number,
            conversations::numbers_find_their_conversation,
            conversations::a_deleted_one_is_gone_and_may_come_back,
            conversations::a_walk_meets_every_conversation_that_stays,
            cursors::cursors_only_move_forward_with_a_dense_version,
            cursors::concurrent_receipts_agree,
            cursors::a_members_cursors_begin_where_it_joined,
            fences::heads_tell_logs_apart,
            fences::what_is_there_is_not_fenced,
            fences::one_of_many_fences_and_the_log_goes_on,
            fences::ranges_reach_over_a_fence,
            fences::what_was_left_free_does_not_count_as_kept,
            fences::whoever_saw_more_or_other_things_fences_again,
            fences::a_lost_conversation_goes_on_where_it_is_created_again,
            fences::a_lost_conversation_may_get_another_number_or_be_deleted,
            fences::feeds_and_their_integers_go_on_above_all_earlier_ones,
            limits::windows_slide_exactly,
            limits::limits_hold_over_nodes_and_entries_can_be_given_back,
            limits::what_happened_later_counts_from_then_on,
            limits::shared_values_have_a_lifetime,
            limits::what_is_kept_takes_the_place_of_what_was_seen,
            limits::nothing_is_lost_of_what_several_nodes_widen_at_once,
            log::appends_are_dense_and_ordered,
            log::a_trace_goes_with_its_message,
            log::concurrent_resends_get_one_id,
            log::client_ids_are_scoped,
            log::strangers_append_nothing,
            log::publications_come_in_order_on_every_node,
            log::subscribe_then_read_misses_nothing,
            log::reactions_are_idempotent,
            log::standing_reactions_are_read,
            log::feeds_and_channels_are_logs,
            log::posts_with_a_name_are_stored_once,
            members::enlisting_is_idempotent_and_logged,
            members::very_many_come_without_their_names_and_each_is_in,
            members::what_very_many_read_is_told_and_they_can_be_deleted,
            members::whoever_has_a_lease_is_found_among_those_who_come,
            nodes::beats_are_seen_by_all_and_the_last_one_counts,
            nodes::a_silent_node_is_not_live_until_it_beats_again,
            nodes::a_node_that_leaves_is_gone_at_once,
            overviews::what_others_said_is_unread_until_it_is_read,
            overviews::what_was_said_before_a_member_came_is_not_unread,
            overviews::counting_ends_somewhere,
            overviews::long_messages_are_not_all_read_to_be_counted,
            overviews::trimmed_messages_are_not_counted,
            overviews::a_walk_over_a_users_conversations_meets_each_once,
            overviews::a_few_members_are_named,
            ranges::ranges_read_both_ways_and_by_time,
            ranges::trimmed_logs_say_where_they_begin,
            ranges::messages_are_found_by_both_ids,
            presence::leases_combine_and_each_change_is_told_once,
            presence::an_unrefreshed_lease_ends_once,
            presence::a_pause_of_the_sweepers_ends_no_lease,
            presence::limits_count_per_mount_and_spare_the_known,
            presence::what_lingers_counts_for_nothing_and_ends_after_its_user_came_back,
            presence::refresh_names_what_had_ended,
            presence::a_refresh_alone_tells_when_a_user_was_heard_of,
            rooms::the_first_in_and_the_last_out_are_told,
            rooms::what_was_asked_for_is_told_once,
            rooms::a_closed_lease_leaves_its_rooms,
            rooms::an_expired_lease_leaves_its_rooms_once,
            rooms::without_a_lease_nobody_enters,
            rooms::a_removed_member_is_out,
            rooms::a_deleted_conversation_is_empty,
            rooms::comings_and_goings_alternate_under_concurrency,
            sequences::assignment_is_idempotent_and_grows,
            sequences::concurrent_assignments_agree,
            trail::nothing_is_kept_unless_it_is_asked_for,
            trail::a_conversations_steps_come_in_order_and_once_they_are_settled_no_more,
            trail::what_is_not_settled_comes_again_with_the_same_id,
            trail::each_group_gets_everything_and_what_one_lacks_is_kept,
            trail::what_is_put_aside_keeps_its_id_and_can_be_brought_back,
            trail::a_consumer_that_is_configured_misses_nothing_when_another_one_is_faster,
            trail::a_consumer_that_is_configured_nowhere_holds_nothing_back_for_ever,
            trail::comings_and_goings_are_kept_with_presence,
            typing::starts_and_stops_alternate,
            typing::a_heartbeat_adds_whom_it_names_once,
            typing::silence_stops_typing_once,
            typing::strangers_do_not_type
        }
    };
    (@each $rig:expr; $($area:ident :: $name:ident),*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let rig = $rig.await;
                $crate::contract::$area::$name(&rig).await;
            }
        )*
    };
}

pub(crate) fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

pub(crate) fn conv(id: &str) -> ConversationId {
    ConversationId::parse(id).unwrap()
}

pub(crate) fn topic(id: &str) -> Topic {
    Topic::Conversation(conv(id))
}

pub(crate) fn message(author: &str, client_id: &str, body: &str) -> Message {
    Message {
        author: Author::bare(user(author)),
        client_id: (!client_id.is_empty()).then(|| client_id.into()),
        body: body.into(),
        metadata: None,
        extra: None,
        trace: None,
    }
}

pub(crate) fn change(id: &str, members: MemberSet) -> Change {
    Change {
        id: conv(id),
        create: true,
        only_create: false,
        kind: ConversationKind::Group,
        title: None,
        members,
        number: None,
        by: None,
    }
}

pub(crate) fn exactly(members: &[&str]) -> MemberSet {
    MemberSet::Exactly(members.iter().map(|id| user(id)).collect())
}

pub(crate) async fn create(node: &Backplane, id: &str, members: &[&str]) -> Conversation {
    let changed = node.conversations.change(change(id, exactly(members))).await.unwrap().unwrap();
    assert!(changed.created);
    changed.conversation
}

/// Where a living log stands.
pub(crate) async fn head(node: &Backplane, id: &str) -> Option<Head> {
    node.fences.heads(&[LogKey::Conversation(conv(id))]).await.remove(0).unwrap().log()
}

pub(crate) async fn say(node: &Backplane, to: &str, author: &str, body: &str) -> Stored {
    match node.log.append(&conv(to), message(author, "", body)).await.unwrap() {
        Appended::New(stored) => stored,
        other => panic!("{other:?}"),
    }
}

/// The next delivery; a test that waits in vain fails.
pub(crate) async fn next(inbox: &mut Inbox) -> Delivery {
    tokio::time::timeout(Duration::from_secs(10), inbox.recv()).await.expect("a delivery in time").unwrap()
}

/// The next publication.
pub(crate) async fn heard(inbox: &mut Inbox) -> Publication {
    match next(inbox).await {
        Delivery::Published(_, publication) => publication,
        Delivery::Lost => panic!("lost"),
    }
}

/// Checks that nothing is on the way: a signal sent now is the next thing heard.
pub(crate) async fn silent(node: &Backplane, inbox: &mut Inbox) {
    node.bus.subscribe(&[Topic::Nodes]).await.unwrap();
    node.bus.signal(&Topic::Nodes, crate::Signal::Maintenance).await.unwrap();
    assert_eq!(
        next(inbox).await,
        Delivery::Published(Topic::Nodes, Publication::Signal(crate::Signal::Maintenance))
    );
}

/// Lets time pass in steps of a second with a sweep after each, as a running node does. Returns the ends seen.
pub(crate) async fn sweep_through(rig: &dyn Rig, node: &Backplane, seconds: u64) -> crate::Swept {
    let mut all = crate::Swept::default();
    for _ in 0..seconds {
        rig.advance(Duration::from_secs(1)).await;
        let swept = node.presence.sweep().await.unwrap();
        all.leases += swept.leases;
        all.typists += swept.typists;
    }
    all
}
