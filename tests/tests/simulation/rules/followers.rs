//! Plugins that read what others derive, and one that must be refused.

/// Looks up a table that another plugin derives.
pub(crate) mod reader {
    use rulemill_sdk::prelude::*;

    orders!(Option<i64>);

    #[derive(Row)]
    #[table(source = "totals")]
    pub struct Total {
        #[key]
        user: i64,
        orders: i64,
        amount: i64,
    }

    #[derive(Row)]
    #[table(derived = "standings")]
    pub struct Standing {
        #[key]
        id: i64,
        orders: Option<i64>,
        amount: Option<i64>,
    }

    #[rule]
    pub fn standings(
        change: Change<Order>,
        totals: &Lookup<Total>,
        standings: &mut Table<Standing>,
    ) -> Outcome {
        let Some(order) = &change.after else {
            standings.remove(change.key())?;
            return Ok(());
        };
        let total = totals.get(order.user)?;
        standings.insert(Standing {
            id: order.id,
            orders: total.as_ref().map(|total| total.orders),
            amount: total.as_ref().map(|total| total.amount),
        });
        Ok(())
    }

    rulemill_sdk::plugin!(standings);
}

/// Is called for the changes of a table that another plugin derives.
pub(crate) mod follow {
    use rulemill_sdk::prelude::*;

    #[derive(Row)]
    #[table(source = "totals")]
    pub struct Total {
        #[key]
        user: i64,
        orders: i64,
        amount: i64,
    }

    #[derive(Row, Default)]
    #[table(derived = "users_total")]
    pub struct UsersTotal {
        #[key]
        odd: i64,
        users: i64,
        amount: i64,
    }

    #[rule]
    pub fn users(change: Change<Total>, totals: &mut Table<UsersTotal>) -> Outcome {
        for Delta { row, sign } in change.deltas() {
            let odd = row.orders.rem_euclid(2);
            let total = totals.entry(odd)?;
            total.users += sign;
            total.amount += row.amount * sign;
            if total.users == 0 && total.amount == 0 {
                totals.remove(odd)?;
            }
        }
        Ok(())
    }

    rulemill_sdk::plugin!(users);
}

/// Owns a table that another plugin owns: it must be refused.
pub(crate) mod thief {
    use rulemill_sdk::prelude::*;

    orders!(Option<i64>);

    #[derive(Row)]
    #[table(derived = "totals")]
    pub struct Total {
        #[key]
        user: i64,
    }

    #[rule]
    pub fn steal(change: Change<Order>, totals: &mut Table<Total>) -> Outcome {
        totals.insert(Total {
            user: change.row().user,
        });
        Ok(())
    }

    rulemill_sdk::plugin!(steal);
}
