//! What several checks need to know: the services, Django, the past. Each is looked at once.

use super::windows::{self, Windows};
use crate::django::{Booting, DjangoError, Session, SiteFacts};
use crate::host::Host;
use crate::lock::Lock;
use crate::plan::Rehearsal;
use crate::report::Report;
use crate::services::{Role, Service, ServiceError, ServiceState};
use crate::site::{Environment, HostRole, Site};
use crate::state::{RunDirectory, State};
use crate::update::forecast::measured_runs;

/// A site that is looked at.
pub(super) struct Look<'s> {
    pub(super) site: &'s Site,
    pub(super) host: Host,
    pub(super) state: State,
    /// What the managers say, in the order of the services; `None`: one of the faults.
    pub(super) states: Vec<Option<ServiceState>>,
    /// Why managers cannot be asked.
    pub(super) service_faults: Vec<ServiceError>,
    /// The last updates whose window was measured, newest first.
    pub(super) past: Vec<Report>,
    /// The size of the copies that an update may make, in bytes.
    pub(super) copies: u64,
    django: Django,
}

/// The live version's Django.
enum Django {
    /// The configuration does not say where it is.
    Unknown,
    Booting(Box<Booting>),
    Down(Option<DjangoError>),
    Up(Box<Booted>),
}

/// The live version's Django, booted.
pub(super) struct Booted {
    pub(super) session: Session,
    pub(super) facts: SiteFacts,
}

impl<'s> Look<'s> {
    /// Begins to boot Django, and asks for the services meanwhile.
    pub(super) fn at(site: &'s Site, host: Host) -> Self {
        let django = match site.project() {
            Err(_) => Django::Unknown,
            Ok(project) => match Session::begin(&host, &project, None) {
                Ok(booting) => Django::Booting(Box::new(booting)),
                Err(error) => Django::Down(Some(error)),
            },
        };
        let state = site.state();
        let mut service_faults = Vec::new();
        let services = site.config().services.iter();
        let states = services
            .map(|service| service.state(&host).map_err(|error| service_faults.push(error)).ok())
            .collect();
        let past = measured_runs(&state).filter(|report| report.rolls_back.is_none());
        let past = past.take(crate::update::forecast::RUNS).collect();
        Look { site, host, state, states, service_faults, past, copies: 0, django }
    }

    /// Returns Django once it is booted; `None`: it does not boot, or the configuration does not say where it is.
    pub(super) fn django(&mut self) -> Option<&mut Booted> {
        if matches!(self.django, Django::Booting(_))
            && let Django::Booting(booting) = std::mem::replace(&mut self.django, Django::Unknown)
        {
            let booted = booting.booted(&self.host).and_then(|mut session| {
                let facts = session.facts(&self.host)?;
                Ok(Box::new(Booted { session, facts }))
            });
            self.django = booted.map_or_else(|error| Django::Down(Some(error)), Django::Up);
        }
        match &mut self.django {
            Django::Up(booted) => Some(booted),
            _ => None,
        }
    }

    /// Returns why Django does not boot, once.
    pub(super) fn django_fault(&mut self) -> Option<DjangoError> {
        self.django();
        match &mut self.django {
            Django::Down(error) => error.take(),
            _ => None,
        }
    }

    /// Tells whether the configuration says where Django is.
    pub(super) fn knows_django(&self) -> bool {
        !matches!(self.django, Django::Unknown)
    }

    /// Returns the web services whose manager answers, with their states.
    pub(super) fn web(&self) -> Vec<(&'s Service, &ServiceState)> {
        let all = self.site.config().services.iter().zip(&self.states);
        let web = all.filter(|(service, _)| service.role == Role::Web);
        web.filter_map(|(service, state)| Some((service, state.as_ref()?))).collect()
    }

    /// Tells whether all web services have a held socket; `false` where there is none.
    pub(super) fn is_held(&self) -> bool {
        let web = self.web();
        !web.is_empty() && web.iter().all(|(_, state)| state.socket.holder.is_some())
    }

    /// Tells whether the site has visitors: not in development.
    pub(super) fn has_visitors(&self) -> bool {
        self.site.config().environment != Environment::Development
    }

    /// Tells whether a run was interrupted, or is held in maintenance: only a recovery is in order then.
    pub(super) fn is_unfinished(&self) -> bool {
        Lock::holder(&self.state.lock()).is_none() && !matches!(self.state.unfinished(), Ok(None))
    }

    /// Tells whether another host changes the databases.
    pub(super) fn follows(&self) -> bool {
        self.site.config().site.role == HostRole::Follower
    }

    /// Returns the windows of the last updates.
    pub(super) fn windows(&self) -> Option<Windows> {
        windows::windows(&self.past)
    }

    /// Returns what was rehearsed last, with the name of that run.
    pub(super) fn last_rehearsal(&self) -> Option<(String, Rehearsal)> {
        let runs = self.state.runs().unwrap_or_default();
        let mut reports = runs.iter().rev().filter_map(RunDirectory::report);
        reports.find_map(|report| Some((report.run?, report.rehearsal?)))
    }
}
