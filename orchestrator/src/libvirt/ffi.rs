//! The libvirt calls that are missing or unsafe in `virt`: lifecycle events, stream events (`virt` passes libvirt the
//! address of a value that may move), block jobs, limits of disks, memory in files, and statistics (`virt` leaks them).
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt::stream::Stream;
use virt_sys as sys;

/// Called with a domain's name, a `virDomainEventType` and its detail.
type LifecycleSink = Box<dyn Fn(&str, u32, u32) + Send + Sync>;

/// Calls `sink` on the event loop's thread for every domain's lifecycle event, until [`ignore_events`].
pub(super) fn on_lifecycle(connect: &Connect, sink: LifecycleSink) -> Result<c_int, Error> {
    let opaque = Box::into_raw(Box::new(sink));
    // SAFETY: libvirt asks callers to cast the callback of this event id to the generic type; function pointers
    // have one size. For `VIR_DOMAIN_EVENT_ID_LIFECYCLE` it calls it with `lifecycle`'s signature.
    let callback = unsafe {
        std::mem::transmute::<
            sys::virConnectDomainEventCallback,
            sys::virConnectDomainEventGenericCallback,
        >(Some(lifecycle))
    };
    // SAFETY: the connection is alive; a null domain means all of them; `opaque` stays valid until libvirt
    // calls `free_lifecycle`, which it does once, after the last callback.
    let id = unsafe {
        sys::virConnectDomainEventRegisterAny(
            connect.as_ptr(),
            std::ptr::null_mut(),
            sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE as c_int,
            callback,
            opaque.cast(),
            Some(free_lifecycle),
        )
    };
    if id < 0 {
        let error = Error::last_error();
        // SAFETY: libvirt refused, so it neither keeps nor frees `opaque`, which came from `Box::into_raw`.
        drop(unsafe { Box::from_raw(opaque) });
        return Err(error);
    }
    Ok(id)
}

/// Called with a domain's name.
type RestartSink = Box<dyn Fn(&str) + Send + Sync>;

/// Calls `sink` on the event loop's thread for every domain that starts again without a new process, until
/// [`ignore_events`].
pub(super) fn on_restart(connect: &Connect, sink: RestartSink) -> Result<c_int, Error> {
    let opaque = Box::into_raw(Box::new(sink));
    // SAFETY: as for the lifecycle; for `VIR_DOMAIN_EVENT_ID_REBOOT` the generic type is the callback's own.
    let id = unsafe {
        sys::virConnectDomainEventRegisterAny(
            connect.as_ptr(),
            std::ptr::null_mut(),
            sys::VIR_DOMAIN_EVENT_ID_REBOOT as c_int,
            Some(restarted),
            opaque.cast(),
            Some(free_restart),
        )
    };
    if id < 0 {
        let error = Error::last_error();
        // SAFETY: libvirt refused, so it neither keeps nor frees `opaque`, which came from `Box::into_raw`.
        drop(unsafe { Box::from_raw(opaque) });
        return Err(error);
    }
    Ok(id)
}

unsafe extern "C" fn restarted(
    _connect: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    opaque: *mut c_void,
) {
    // SAFETY: `opaque` is the box of `on_restart`, not yet freed while callbacks run.
    let sink = unsafe { &*opaque.cast::<RestartSink>() };
    // SAFETY: libvirt passes a domain that lives during the call.
    if let Some(name) = unsafe { name(domain) } {
        // Unwinding must not reach C; a sink only sends to a channel, which does not panic.
        let _ = catch_unwind(AssertUnwindSafe(|| sink(&name.to_string_lossy())));
    }
}

unsafe extern "C" fn free_restart(opaque: *mut c_void) {
    // SAFETY: libvirt calls this once with the pointer of `Box::into_raw` in `on_restart`.
    drop(unsafe { Box::from_raw(opaque.cast::<RestartSink>()) });
}

/// The name of a domain that is alive, for as long as it is; NUL-terminated.
unsafe fn name<'a>(domain: sys::virDomainPtr) -> Option<&'a CStr> {
    // SAFETY: the caller says that the domain is alive.
    let name = unsafe { sys::virDomainGetName(domain) };
    // SAFETY: the name lives as long as the domain.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) })
}

/// Removes the callback of [`on_lifecycle`] or [`on_restart`]. Has no effect on a dead connection.
pub(super) fn ignore_events(connect: &Connect, id: c_int) {
    // SAFETY: the connection is valid in memory, even if its transport failed; an unknown id only causes an error.
    unsafe { sys::virConnectDomainEventDeregisterAny(connect.as_ptr(), id) };
}

unsafe extern "C" fn lifecycle(
    _connect: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: `opaque` is the box of `on_lifecycle`, not yet freed while callbacks run.
    let sink = unsafe { &*opaque.cast::<LifecycleSink>() };
    // SAFETY: libvirt passes a domain that lives during the call.
    if let Some(name) = unsafe { name(domain) } {
        // Unwinding must not reach C; a sink only sends to a channel, which does not panic.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            sink(&name.to_string_lossy(), event as u32, detail as u32);
        }));
    }
    0
}

unsafe extern "C" fn free_lifecycle(opaque: *mut c_void) {
    // SAFETY: libvirt calls this once with the pointer of `Box::into_raw` in `on_lifecycle`.
    drop(unsafe { Box::from_raw(opaque.cast::<LifecycleSink>()) });
}

/// A domain's `virDomainState` and its reason. `virt` hides a failure of this call.
pub(super) fn state(domain: &Domain) -> Result<(u32, u32), Error> {
    let (mut state, mut reason): (c_int, c_int) = (0, 0);
    // SAFETY: the domain is alive, and libvirt writes to both integers before it returns.
    let status = unsafe { sys::virDomainGetState(domain.as_ptr(), &mut state, &mut reason, 0) };
    if status < 0 {
        return Err(Error::last_error());
    }
    Ok((state as u32, reason as u32))
}

/// How many disks are looked at for an error; pspd's domains have fewer.
const DISKS: usize = 64;

/// Whether a disk of a domain that runs or is paused could not be read or written since its last resume.
pub(super) fn has_disk_error(domain: &Domain) -> Result<bool, Error> {
    let none = sys::virDomainDiskError {
        disk: std::ptr::null_mut(),
        error: 0,
    };
    let mut errors = [none; DISKS];
    // SAFETY: the domain is alive; libvirt writes to at most `DISKS` elements, and returns how many it wrote.
    let count = unsafe {
        sys::virDomainGetDiskErrors(domain.as_ptr(), errors.as_mut_ptr(), DISKS as u32, 0)
    };
    for error in &errors {
        // SAFETY: the caller owns the names, which libvirt allocated with `malloc`; free accepts null.
        unsafe { libc::free(error.disk.cast()) };
    }
    if count < 0 {
        return Err(Error::last_error());
    }
    Ok(count > 0)
}

/// A domain's name and its statistics that are whole numbers, by libvirt's names for them.
pub(super) type Statistics = (String, Vec<(String, u64)>);

/// The statistics of domains of one connection, in one call; `kinds` are `VIR_DOMAIN_STATS_*`.
pub(super) fn statistics(domains: &[&Domain], kinds: u32) -> Result<Vec<Statistics>, Error> {
    // SAFETY: the pointers are used in this function, in which the domains are alive.
    let wanted = domains.iter().map(|domain| unsafe { domain.as_ptr() });
    let mut wanted: Vec<sys::virDomainPtr> = wanted.chain([std::ptr::null_mut()]).collect();
    let mut records: *mut sys::virDomainStatsRecordPtr = std::ptr::null_mut();
    // SAFETY: the domains are alive, null ends the list, and libvirt writes a list of its own to `records`.
    let count = unsafe { sys::virDomainListGetStats(wanted.as_mut_ptr(), kinds, &mut records, 0) };
    let Ok(count) = usize::try_from(count) else {
        return Err(Error::last_error());
    };
    let mut all = Vec::with_capacity(count);
    for at in 0..count {
        // SAFETY: libvirt returned the list's length; each record has a domain and `nparams` parameters.
        let (domain, parameters) = unsafe {
            let record = &**records.add(at);
            let length = usize::try_from(record.nparams).unwrap_or(0);
            // A slice has an address also where it is empty.
            let parameters = match length {
                0 => &[][..],
                _ => std::slice::from_raw_parts(record.params, length),
            };
            (name(record.dom), parameters)
        };
        let domain = domain.map(|name| name.to_string_lossy().into_owned());
        let numbers = parameters.iter().filter_map(number).collect();
        all.extend(domain.map(|domain| (domain, numbers)));
    }
    // SAFETY: the list is libvirt's, and nothing of it is used after this.
    unsafe { sys::virDomainStatsRecordListFree(records) };
    Ok(all)
}

/// A parameter's name and value; `None` if it is not a whole number from 0.
fn number(parameter: &sys::virTypedParameter) -> Option<(String, u64)> {
    // SAFETY: the name is an array in which libvirt ends it with NUL.
    let name = unsafe { CStr::from_ptr(parameter.field.as_ptr()) };
    // SAFETY: the type says which member of the union libvirt has set.
    let value = unsafe {
        match parameter.type_ as u32 {
            sys::VIR_TYPED_PARAM_INT => u64::try_from(parameter.value.i).ok()?,
            sys::VIR_TYPED_PARAM_UINT => parameter.value.ui.into(),
            sys::VIR_TYPED_PARAM_LLONG => u64::try_from(parameter.value.l).ok()?,
            sys::VIR_TYPED_PARAM_ULLONG => parameter.value.ul,
            _ => return None,
        }
    };
    Some((name.to_string_lossy().into_owned(), value))
}

/// What a non-blocking stream has to say.
pub(super) enum Incoming<'a> {
    Data(&'a [u8]),
    /// End of file, hang-up or error: there will be no more data.
    End,
}

/// Called on the event loop's thread.
type StreamSink = Box<dyn FnMut(Incoming<'_>) + Send>;

/// Calls `sink` for the events of a non-blocking stream, until [`end_stream`].
pub(super) fn on_stream(stream: &Stream, sink: StreamSink) -> Result<(), Error> {
    let events =
        sys::VIR_STREAM_EVENT_READABLE | sys::VIR_STREAM_EVENT_ERROR | sys::VIR_STREAM_EVENT_HANGUP;
    let opaque = Box::into_raw(Box::new(sink));
    // SAFETY: the stream is alive; `opaque` stays valid until libvirt calls `free_stream`, once, when the
    // callback is removed and not running.
    let status = unsafe {
        sys::virStreamEventAddCallback(
            stream.as_ptr(),
            events as c_int,
            Some(incoming),
            opaque.cast(),
            Some(free_stream),
        )
    };
    if status < 0 {
        let error = Error::last_error();
        // SAFETY: libvirt refused, so it neither keeps nor frees `opaque`, which came from `Box::into_raw`.
        drop(unsafe { Box::from_raw(opaque) });
        return Err(error);
    }
    Ok(())
}

/// Removes the callback and ends the stream; errors mean that it has already ended.
pub(super) fn end_stream(stream: &Stream) {
    // SAFETY: the stream is alive; both calls fail cleanly on one that has ended.
    unsafe {
        sys::virStreamEventRemoveCallback(stream.as_ptr());
        sys::virStreamAbort(stream.as_ptr());
    }
}

unsafe extern "C" fn incoming(stream: sys::virStreamPtr, events: c_int, opaque: *mut c_void) {
    // SAFETY: `opaque` is the box of `on_stream`, not yet freed; libvirt never runs a stream's callback twice at once.
    let sink = unsafe { &mut *opaque.cast::<StreamSink>() };
    let mut buffer = [0u8; 4096];
    let ended = loop {
        // SAFETY: libvirt passes a live stream; the buffer has the given length.
        let count = unsafe { sys::virStreamRecv(stream, buffer.as_mut_ptr().cast(), buffer.len()) };
        match usize::try_from(count) {
            Ok(count @ 1..) => {
                // Unwinding must not reach C; a sink only sends to a channel, which does not panic.
                let data = Incoming::Data(&buffer[..count]);
                let _ = catch_unwind(AssertUnwindSafe(|| sink(data)));
            }
            Ok(0) => break true,
            // -2: nothing to read now.
            Err(_) => break count != -2,
        }
    };
    let closed = sys::VIR_STREAM_EVENT_ERROR | sys::VIR_STREAM_EVENT_HANGUP;
    if ended || events as u32 & closed != 0 {
        let _ = catch_unwind(AssertUnwindSafe(|| sink(Incoming::End)));
        // SAFETY: the stream is alive; without events, an ended stream does not call back again.
        unsafe { sys::virStreamEventUpdateCallback(stream, 0) };
    }
}

unsafe extern "C" fn free_stream(opaque: *mut c_void) {
    // SAFETY: libvirt calls this once with the pointer of `Box::into_raw` in `on_stream`.
    drop(unsafe { Box::from_raw(opaque.cast::<StreamSink>()) });
}

/// The progress of a block job, in units of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockJob {
    pub done: u64,
    pub total: u64,
}

/// Starts to merge the top layer of a running domain's disk into its backing file.
pub(super) fn commit_active(domain: &Domain, target: &CStr) -> Result<(), Error> {
    let flags = sys::VIR_DOMAIN_BLOCK_COMMIT_ACTIVE | sys::VIR_DOMAIN_BLOCK_COMMIT_SHALLOW;
    // SAFETY: the domain is alive; the target is NUL-terminated; null base and top select the whole chain, which
    // `SHALLOW` limits to the first backing file.
    let status = unsafe {
        sys::virDomainBlockCommit(
            domain.as_ptr(),
            target.as_ptr(),
            std::ptr::null(),
            std::ptr::null(),
            0,
            flags,
        )
    };
    if status < 0 {
        Err(Error::last_error())
    } else {
        Ok(())
    }
}

/// Starts to merge a file below a running domain's disk into the one below it.
pub(super) fn commit(domain: &Domain, target: &CStr, top: &CStr, base: &CStr) -> Result<(), Error> {
    // SAFETY: the domain is alive; the target, the base and the top are NUL-terminated.
    let status = unsafe {
        sys::virDomainBlockCommit(
            domain.as_ptr(),
            target.as_ptr(),
            base.as_ptr(),
            top.as_ptr(),
            0,
            0,
        )
    };
    if status < 0 {
        Err(Error::last_error())
    } else {
        Ok(())
    }
}

/// Returns the disk's block job, if it has one.
pub(super) fn block_job(domain: &Domain, target: &CStr) -> Result<Option<BlockJob>, Error> {
    // SAFETY: all-zero is a valid value of this structure of numbers.
    let mut info: sys::virDomainBlockJobInfo = unsafe { std::mem::zeroed() };
    // SAFETY: the domain is alive; the target is NUL-terminated; `info` lives during the call.
    let status =
        unsafe { sys::virDomainGetBlockJobInfo(domain.as_ptr(), target.as_ptr(), &mut info, 0) };
    match status {
        ..0 => Err(Error::last_error()),
        0 => Ok(None),
        _ => Ok(Some(BlockJob {
            done: info.cur,
            total: info.end,
        })),
    }
}

/// Starts to copy what a running domain's disk has from the files between it and `base` into it; without a base, from all.
pub(super) fn pull(domain: &Domain, target: &CStr, base: Option<&CStr>) -> Result<(), Error> {
    let base = base.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: the domain is alive; the target and the base, unless null, are NUL-terminated.
    let status = unsafe { sys::virDomainBlockRebase(domain.as_ptr(), target.as_ptr(), base, 0, 0) };
    if status < 0 {
        Err(Error::last_error())
    } else {
        Ok(())
    }
}

/// Completes a commit that is ready: the domain switches to the backing file.
pub(super) fn pivot(domain: &Domain, target: &CStr) -> Result<(), Error> {
    let flags = sys::VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT;
    // SAFETY: the domain is alive; the target is NUL-terminated.
    let status = unsafe { sys::virDomainBlockJobAbort(domain.as_ptr(), target.as_ptr(), flags) };
    if status < 0 {
        Err(Error::last_error())
    } else {
        Ok(())
    }
}

/// Replaces limits of a running domain's disk, by their names; zero is none.
pub(super) fn throttle(
    domain: &Domain,
    target: &CStr,
    limits: [(&CStr, u64); 2],
) -> Result<(), Error> {
    let mut params: sys::virTypedParameterPtr = std::ptr::null_mut();
    let (mut count, mut room) = (0, 0);
    let mut status = 0;
    for (name, value) in limits {
        // SAFETY: libvirt grows the list, which begins as null, and counts what it adds; names are NUL-terminated.
        status = status.min(unsafe {
            sys::virTypedParamsAddULLong(&mut params, &mut count, &mut room, name.as_ptr(), value)
        });
    }
    if status == 0 {
        let flags = sys::VIR_DOMAIN_AFFECT_LIVE;
        // SAFETY: the domain is alive; the target is NUL-terminated; the list has `count` elements.
        status = unsafe {
            sys::virDomainSetBlockIoTune(domain.as_ptr(), target.as_ptr(), params, count, flags)
        };
    }
    let ended = if status < 0 {
        Err(Error::last_error())
    } else {
        Ok(())
    };
    // SAFETY: the list is libvirt's, with `count` elements, and is not used again; null is accepted.
    unsafe { sys::virTypedParamsFree(params, count) };
    ended
}

/// Writes a domain's memory to a file, and ends its process.
pub(super) fn save(domain: &Domain, path: &CStr) -> Result<(), Error> {
    // SAFETY: the domain is alive; the path is NUL-terminated; a null definition means its own.
    let status =
        unsafe { sys::virDomainSaveFlags(domain.as_ptr(), path.as_ptr(), std::ptr::null(), 0) };
    if status < 0 {
        Err(Error::last_error())
    } else {
        Ok(())
    }
}

/// The definition of the domain whose memory is in a file.
pub(super) fn saved_definition(connect: &Connect, path: &CStr) -> Result<String, Error> {
    let flags = sys::VIR_DOMAIN_SAVE_IMAGE_XML_SECURE;
    // SAFETY: the connection is alive; the path is NUL-terminated.
    let xml = unsafe { sys::virDomainSaveImageGetXMLDesc(connect.as_ptr(), path.as_ptr(), flags) };
    if xml.is_null() {
        return Err(Error::last_error());
    }
    // SAFETY: libvirt returned a NUL-terminated text.
    let text = unsafe { CStr::from_ptr(xml) }
        .to_string_lossy()
        .into_owned();
    // SAFETY: the caller owns the text, which libvirt allocated with `malloc`.
    unsafe { libc::free(xml.cast()) };
    Ok(text)
}

/// Starts a domain from the memory in a file, by this definition; its virtual CPUs do not run.
pub(super) fn restore(connect: &Connect, path: &CStr, definition: &CStr) -> Result<(), Error> {
    let flags = sys::VIR_DOMAIN_SAVE_PAUSED;
    // SAFETY: the connection is alive; the path and the definition are NUL-terminated.
    let status = unsafe {
        sys::virDomainRestoreFlags(connect.as_ptr(), path.as_ptr(), definition.as_ptr(), flags)
    };
    if status < 0 {
        Err(Error::last_error())
    } else {
        Ok(())
    }
}
