//! A rule that looks another source table up, beside one that panics.

macro_rules! enrich {
    ($module:ident, $faulty:expr, $($amount:tt)+) => {
        pub(crate) mod $module {
            use rulemill_sdk::prelude::*;

            use crate::rules::{flaw, quiet_panic};

            orders!($($amount)+);

            #[derive(Row)]
            #[table(source = "users")]
            pub struct User {
                #[key]
                id: i64,
                tier: i64,
            }

            #[derive(Row)]
            #[table(derived = "names")]
            pub struct Name {
                #[key]
                id: i64,
                tier: Option<i64>,
                near: String,
            }

            #[derive(Row)]
            #[table(derived = "shaky")]
            pub struct Shaky {
                #[key]
                id: i64,
                user: i64,
            }

            #[rule]
            pub fn names(
                change: Change<Order>,
                users: &Lookup<User>,
                names: &mut Table<Name>,
            ) -> Outcome {
                let Some(order) = &change.after else {
                    names.remove(change.key())?;
                    return Ok(());
                };
                let tier = users.get(order.user)?.map(|user| user.tier);
                let mut near = Vec::new();
                for user in users.range(order.user - 1..order.user + 2) {
                    let user = user?;
                    near.push(format!("{}:{}", user.id, user.tier));
                }
                let near = near.join(",");
                names.insert(Name { id: order.id, tier, near });
                Ok(())
            }

            #[rule]
            pub fn shaky(change: Change<Order>, rows: &mut Table<Shaky>) -> Outcome {
                if has(&change, $faulty, flaw::SHAKY_PANIC) {
                    quiet_panic("a flaw in shaky");
                }
                match change.after {
                    Some(Order { id, user, .. }) => rows.insert(Shaky { id, user }),
                    None => {
                        rows.remove(change.key())?;
                    }
                }
                Ok(())
            }

            rulemill_sdk::plugin!(names, shaky);
        }
    };
}

enrich!(enrich_1, true, Option<i64>);
enrich!(enrich_2, false, Option<i64>);
