//! Registries that fail, lie, flood and stall: what k3arm makes of each, against a server that breaks every rule.

#[cfg(test)]
mod blobs;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod faulty;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod real;
#[cfg(test)]
mod rights;
