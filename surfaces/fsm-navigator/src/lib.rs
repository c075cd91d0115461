//! The FSM Navigator surface: FSM Navigator's REST API for field service.

mod dialect;

pub use dialect::FsmNavigatorDialect;
