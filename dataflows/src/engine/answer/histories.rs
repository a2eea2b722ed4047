//! Users with all that is in memory of them: what tables over sessions, journeys and events are read from.

use super::{cold_parts_of, find_users, has_rows, order, user_answer};
use crate::engine::worker::Views;
use crate::query::{Answer, HeldEvent, HistoriesQuery, UserHistory};
use crate::views::sessions::SessionsState;
use crate::views::sessions::state::User;

pub(super) fn histories(views: &mut Views, query: &HistoriesQuery) -> Answer {
    let sessions = views.sessions.clone();
    let sessions = sessions.borrow();
    let mut slots: Vec<u32> = match &query.users {
        Some(users) => users.iter().flat_map(|user| find_users(&sessions, None, user)).collect(),
        None => (0..sessions.users.len() as u32).filter(|slot| has_rows(&sessions, *slot)).collect(),
    };
    slots.sort_unstable_by_key(|slot| order(&sessions.users[*slot as usize]));
    slots.dedup();
    let (mut users, mut rows, mut complete) = (Vec::new(), 0usize, true);
    for slot in slots {
        let user = &sessions.users[slot as usize];
        rows += 1 + user.history.sessions() + if query.events { user.history.events().len() } else { 0 };
        if rows > query.rows_max {
            complete = false;
            break;
        }
        let events = if query.events { events(&sessions, user) } else { Vec::new() };
        users.push(UserHistory { answer: user_answer(views, &sessions, slot), events });
    }
    let cold = cold_parts_of(users.iter().map(|user| &user.answer), &sessions);
    Answer::Histories { users, cold, complete }
}

/// The open events of a user, in order, with the numbers of their sessions.
fn events(sessions: &SessionsState, user: &User) -> Vec<HeldEvent> {
    let numbered = (user.sealed_sessions() + 1..).zip(0..user.history.sessions());
    let of_session = |(number, session): (u64, usize)| user.history.session(session).iter().map(move |event| (number, event));
    let held = numbered.flat_map(of_session).map(|(session, event)| {
        let kind = sessions.kinds.get(event.kind);
        let (event_type, page) = (kind.event_type.clone(), kind.page.clone());
        HeldEvent { id: event.id, time: event.time, event_type, page, value: event.value, session }
    });
    held.collect()
}
