pub struct Harness;
pub struct Fault;
