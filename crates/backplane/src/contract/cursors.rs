//! Cursors: forward only, dense versions, one publication per move.

use parlance_model::{ReceiptKind, delivery::Moved};
use tokio::task::JoinSet;

use super::{Rig, change, conv, create, head, heard, say, silent, topic, user};
use crate::{CursorChanged, CursorSet, MemberSet, Publication};

pub async fn cursors_only_move_forward_with_a_dense_version(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    create(&nodes[0], "c", &["a", "b"]).await;
    for _ in 0..4 {
        say(&nodes[0], "c", "a", "x").await;
    }
    let mut inbox = nodes[1].bus.inbox().unwrap();
    nodes[1].bus.subscribe(&[topic("c")]).await.unwrap();
    let advance = async |who: &str, kind: ReceiptKind, seq: u64| {
        nodes[0].cursors.advance(&conv("c"), &user(who), kind, seq).await.unwrap()
    };
    let steps = [
        (ReceiptKind::Delivered, 3, Moved { delivered: Some((0, 3)), read: None }),
        (ReceiptKind::Delivered, 2, Moved::default()),
        (ReceiptKind::Read, 2, Moved { delivered: None, read: Some((0, 2)) }),
        (ReceiptKind::Read, 1, Moved::default()),
        (ReceiptKind::Read, 99, Moved { delivered: Some((3, 5)), read: Some((2, 5)) }),
    ];
    let mut version = 0;
    for (kind, seq, moved) in steps {
        let changed = advance("b", kind, seq).await.unwrap();
        version += u64::from(moved != Moved::default());
        assert_eq!((changed.moved, changed.version), (moved, version));
        if moved != Moved::default() {
            assert_eq!(heard(&mut inbox).await, Publication::Cursor(changed));
        }
    }
    silent(&nodes[1], &mut inbox).await;
    assert_eq!(advance("eve", ReceiptKind::Read, 1).await, None);
    let nowhere = nodes[0].cursors.advance(&conv("none"), &user("a"), ReceiptKind::Read, 1).await.unwrap();
    assert_eq!(nowhere, None);
    let (kept, all) = nodes[1].cursors.cursors(&conv("c")).await.unwrap();
    assert_eq!((kept, all.len()), (version, 1));
    assert_eq!((&all[0].user, all[0].delivered, all[0].read), (&user("b"), 5, 5));
    let standing = nodes[0].cursors.standing(&[conv("none"), conv("c")]).await;
    let number = nodes[0].conversations.get(&conv("c")).await.unwrap().unwrap().number();
    let expected = CursorSet { number, version, cursors: all };
    assert_eq!(standing, [Ok(CursorSet::default()), Ok(expected)]);
    let head = head(&nodes[0], "c").await.unwrap();
    assert_eq!((head.cursor_version, head.seq), (version, 5));
    let membership = nodes[0].conversations.of_user(&user("b")).await.unwrap();
    assert_eq!((membership[0].marks.delivered, membership[0].marks.read), (5, 5));
}

pub async fn concurrent_receipts_agree(rig: &dyn Rig) {
    let nodes = rig.nodes(2).await;
    create(&nodes[0], "c", &["a", "b"]).await;
    for _ in 0..20 {
        say(&nodes[0], "c", "a", "x").await;
    }
    let mut tasks = JoinSet::new();
    for n in 0..40u64 {
        let node = nodes[usize::from(n % 2 == 0)].clone();
        let kind = if n % 3 == 0 { ReceiptKind::Read } else { ReceiptKind::Delivered };
        tasks.spawn(async move {
            node.cursors.advance(&conv("c"), &user("b"), kind, (n * 7) % 22).await.unwrap().unwrap()
        });
    }
    let mut moves: Vec<CursorChanged> = tasks.join_all().await;
    moves.retain(|changed| changed.moved != Moved::default());
    moves.sort_by_key(|changed| changed.version);
    let versions: Vec<u64> = moves.iter().map(|changed| changed.version).collect();
    assert_eq!(versions, (1..=moves.len() as u64).collect::<Vec<_>>());
    let mut delivered = 0;
    for (from, to) in moves.iter().filter_map(|changed| changed.moved.delivered) {
        assert_eq!(from, delivered, "ranges follow each other");
        delivered = to;
    }
    assert_eq!(delivered, 21);
}

pub async fn a_members_cursors_begin_where_it_joined(rig: &dyn Rig) {
    let nodes = rig.nodes(1).await;
    create(&nodes[0], "c", &["a"]).await;
    for _ in 0..4 {
        say(&nodes[0], "c", "a", "x").await;
    }
    let add = MemberSet::Delta { add: vec![user("b")], remove: vec![] };
    let changed = nodes[0].conversations.change(change("c", add)).await.unwrap().unwrap();
    let joined = changed.conversation.member(&user("b")).unwrap().joined_seq;
    let read = async |seq| {
        let moved = nodes[0].cursors.advance(&conv("c"), &user("b"), ReceiptKind::Read, seq).await;
        moved.unwrap().unwrap().moved
    };
    assert_eq!(read(2).await, Moved::default(), "said before it joined");
    let last = say(&nodes[0], "c", "a", "y").await.seq;
    let since = Some((joined, last));
    assert_eq!(read(last).await, Moved { delivered: since, read: since });
}
