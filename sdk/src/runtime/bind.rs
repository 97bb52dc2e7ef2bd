//! How a rule's signature becomes its declaration and its call: inputs and arguments by type.

use std::any::TypeId;

use rulemill_wire::{DecodeError, Reader, batch::Kind, manifest};
use serde::de::DeserializeOwned;

use super::{
    Call,
    plan::Plan,
    resource::{self, NOTIFY, NOW, Resource, TIMERS},
};
use crate::{
    change::{Change, Timer},
    config::Config,
    error::Outcome,
    lookup::Lookup,
    notify::Notify,
    now::Now,
    row::{DerivedRow, Row, SourceRow},
    table::Table,
    timers::Timers,
};

/// What a rule is called with.
#[doc(hidden)]
pub enum Item<'a, 'b> {
    Change(Kind, &'a mut Reader<'b>),
    Timer(Timer),
}

/// A rule's first argument.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a rule can't be called with `{Self}`",
    note = "a rule's first argument is `Change<T>`, where T derives `Row`, or `Timer`"
)]
pub trait Input: Sized + 'static {
    fn declare(plan: &mut Plan) -> Result<manifest::Input, String>;
    fn take(item: Item<'_, '_>) -> Result<Self, DecodeError>;
}

/// An item came to a rule that is called for something else.
pub(crate) const WRONG_KIND: DecodeError = DecodeError::OutOfRange("an item's kind for its rule");

impl<T: Row> Input for Change<T> {
    fn declare(plan: &mut Plan) -> Result<manifest::Input, String> {
        let table = plan.table(T::SPEC.to_manifest())?;
        Ok(manifest::Input::Changes(table))
    }

    #[inline]
    fn take(item: Item<'_, '_>) -> Result<Self, DecodeError> {
        let Item::Change(kind, reader) = item else {
            return Err(WRONG_KIND);
        };
        Ok(match kind {
            Kind::Insert => Self::insert(T::read_row(reader)?),
            Kind::Update => {
                let before = T::read_row(reader)?;
                Self::update(before, T::read_row(reader)?)
            }
            Kind::Delete => Self::delete(T::read_row(reader)?),
            Kind::Read => Self::read(T::read_row(reader)?),
            Kind::Timer | Kind::Tick => return Err(WRONG_KIND),
        })
    }
}

impl Input for Timer {
    fn declare(_plan: &mut Plan) -> Result<manifest::Input, String> {
        Ok(manifest::Input::Timers)
    }

    fn take(item: Item<'_, '_>) -> Result<Self, DecodeError> {
        match item {
            Item::Timer(timer) => Ok(timer),
            Item::Change(..) => Err(WRONG_KIND),
        }
    }
}

/// An argument of a rule after the first.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a rule can't take an argument of type `{Self}`",
    label = "not an argument of a rule",
    note = "after the first argument a rule takes any of `&mut Table<T>`, `&Lookup<T>`, `&mut Notify`, `&mut Timers`, `&Config<T>` and `Now`"
)]
pub trait Argument<'a>: Sized {
    /// Declares what the rule uses and gives the place of the resource.
    fn declare(plan: &mut Plan) -> Result<usize, String>;
    fn take(resource: &'a mut dyn Resource, call: &Call) -> Self;
}

impl<'a, T: DerivedRow> Argument<'a> for &'a mut Table<T> {
    fn declare(plan: &mut Plan) -> Result<usize, String> {
        let table = plan.table(T::SPEC.to_manifest())?;
        plan.writer(table, TypeId::of::<T>())?;
        plan.rule().writes.push(table);
        plan.resource(|_| Ok(Table::<T>::new(table)))
    }

    #[inline]
    fn take(resource: &'a mut dyn Resource, call: &Call) -> Self {
        let table: &mut Table<T> = resource::of(resource);
        table.store.begin(call);
        table
    }
}

impl<'a, T: SourceRow> Argument<'a> for &'a Lookup<T> {
    fn declare(plan: &mut Plan) -> Result<usize, String> {
        let table = plan.table(T::SPEC.to_manifest())?;
        plan.rule().lookups.push(table);
        plan.resource(|_| Ok(Lookup::<T>::new(table)))
    }

    #[inline]
    fn take(resource: &'a mut dyn Resource, call: &Call) -> Self {
        let lookup: &mut Lookup<T> = resource::of(resource);
        lookup.core.begin(call);
        lookup
    }
}

impl<'a> Argument<'a> for &'a mut Notify {
    fn declare(plan: &mut Plan) -> Result<usize, String> {
        plan.rule().notifies = true;
        Ok(NOTIFY)
    }

    #[inline]
    fn take(resource: &'a mut dyn Resource, call: &Call) -> Self {
        let notify: &mut Notify = resource::of(resource);
        notify.begin(call);
        notify
    }
}

impl<'a> Argument<'a> for &'a mut Timers {
    fn declare(plan: &mut Plan) -> Result<usize, String> {
        plan.rule().sets_timers = true;
        Ok(TIMERS)
    }

    #[inline]
    fn take(resource: &'a mut dyn Resource, call: &Call) -> Self {
        let timers: &mut Timers = resource::of(resource);
        timers.begin(call);
        timers
    }
}

impl<'a, T: DeserializeOwned + Send + 'static> Argument<'a> for &'a Config<T> {
    fn declare(plan: &mut Plan) -> Result<usize, String> {
        plan.resource(|plan| Config::<T>::from_json(plan.config()))
    }

    #[inline]
    fn take(resource: &'a mut dyn Resource, _call: &Call) -> Self {
        resource::of::<Config<T>>(resource)
    }
}

impl Argument<'_> for Now {
    fn declare(_plan: &mut Plan) -> Result<usize, String> {
        Ok(NOW)
    }

    #[inline]
    fn take(_resource: &mut dyn Resource, call: &Call) -> Self {
        Now::at(call.timestamp())
    }
}

/// A rule, as `plugin!` names it; `#[rule]` implements it.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a rule",
    note = "put `#[rule]` on the function"
)]
pub trait Rule {
    fn bind(plan: &mut Plan) -> Result<Box<dyn RuleCall>, String>;
}

/// A rule that can be called.
#[doc(hidden)]
pub trait RuleCall: Send {
    fn call(
        &mut self,
        call: &Call,
        item: Item<'_, '_>,
        resources: &mut [Box<dyn Resource>],
    ) -> Result<Outcome, DecodeError>;

    /// The resources it uses.
    fn places(&self) -> &[usize];
}

/// Declares an argument and gives its place.
type Declare = fn(&mut Plan) -> Result<usize, String>;

/// A rule's function with the places of its arguments.
#[doc(hidden)]
pub struct Bound<const N: usize, I, F> {
    places: [usize; N],
    function: F,
    input: std::marker::PhantomData<fn(I)>,
}

impl<const N: usize, I, F> Bound<N, I, F>
where
    I: Input,
    F: FnMut(I, [&mut Box<dyn Resource>; N], &Call) -> Outcome + Send + 'static,
{
    /// Declares a rule; `arguments` declares each of its arguments, in order.
    pub fn bind(
        plan: &mut Plan,
        name: &str,
        arguments: [Declare; N],
        function: F,
    ) -> Result<Box<dyn RuleCall>, String> {
        let input = I::declare(plan).map_err(|error| format!("rule {name}: {error}"))?;
        plan.begin_rule(name, input);
        let mut places = [0; N];
        for (place, declare) in places.iter_mut().zip(arguments) {
            *place = declare(plan).map_err(|error| format!("rule {name}: {error}"))?;
        }
        for (i, place) in places.iter().enumerate() {
            if places[..i].contains(place) {
                return Err(format!(
                    "rule {name} takes the same argument twice; take it once"
                ));
            }
        }
        Ok(Box::new(Self {
            places,
            function,
            input: std::marker::PhantomData,
        }))
    }
}

impl<const N: usize, I, F> RuleCall for Bound<N, I, F>
where
    I: Input,
    F: FnMut(I, [&mut Box<dyn Resource>; N], &Call) -> Outcome + Send,
{
    #[inline]
    fn call(
        &mut self,
        call: &Call,
        item: Item<'_, '_>,
        resources: &mut [Box<dyn Resource>],
    ) -> Result<Outcome, DecodeError> {
        let input = I::take(item)?;
        match resources.get_disjoint_mut(self.places) {
            Ok(arguments) => Ok((self.function)(input, arguments, call)),
            Err(_) => unreachable!("places were checked when the rule was bound"),
        }
    }

    fn places(&self) -> &[usize] {
        &self.places
    }
}
