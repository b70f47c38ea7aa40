package main

import (
	"bytes"
	"crypto/md5"
	"encoding/xml"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// object is a finished object. Its parts stay the files they were uploaded as, so that completing an upload copies nothing.
type object struct {
	segments []segment
	size     int64
	etag     string
	modified time.Time
	header   http.Header // Content-Type and x-amz-meta-*
}

type part struct {
	segment
	etag     string
	modified time.Time
}

type upload struct {
	id      string
	key     string
	created time.Time
	parts   map[int]part
	header  http.Header
}

// store is an S3 server of one bucket: the index in memory, the bytes in files.
type store struct {
	dir    string
	bucket string

	mutex   sync.Mutex
	serial  int
	objects map[string]*object
	uploads map[string]*upload
}

func newStore(dir, bucket string) *store {
	return &store{dir: dir, bucket: bucket, objects: map[string]*object{}, uploads: map[string]*upload{}}
}

// ServeHTTP dispatches path-style requests on method, key and sub-resource; a call it does not know is 501 and a line on stderr.
func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	query := r.URL.Query()
	if r.ContentLength == 0 && r.Header.Get("Expect") != "" {
		// net/http says it by itself only where a body follows; the AWS clients wait for it in front of an empty one too.
		w.WriteHeader(http.StatusContinue)
	}
	w.Header().Set("x-amz-request-id", "bench")
	switch {
	case bucket != s.bucket:
		refuseS3(w, http.StatusNotFound, "NoSuchBucket", bucket)
	case r.Header.Get("x-amz-copy-source") != "", strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked"):
		refuseUnknown(w, r)
	case key == "":
		s.serveBucket(w, r)
	case r.Method == http.MethodPost && query.Has("uploads"):
		s.createUpload(w, r, key)
	case r.Method == http.MethodPost && query.Has("uploadId"):
		s.completeUpload(w, r, key, query.Get("uploadId"))
	case r.Method == http.MethodPut && query.Has("uploadId"):
		s.putPart(w, r, query.Get("uploadId"), query.Get("partNumber"))
	case r.Method == http.MethodDelete && query.Has("uploadId"):
		s.abortUpload(w, query.Get("uploadId"))
	case r.Method == http.MethodGet && query.Has("uploadId"):
		s.listParts(w, r, query.Get("uploadId"))
	case r.Method == http.MethodPut:
		s.putObject(w, r, key)
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		s.getObject(w, r, key)
	case r.Method == http.MethodDelete:
		s.remove(key)
		w.WriteHeader(http.StatusNoContent)
	default:
		refuseUnknown(w, r)
	}
}

func (s *store) putObject(w http.ResponseWriter, r *http.Request, key string) {
	// An object that came in one request has its MD5 as ETag, and clients compare it; parts go without, as they are the bulk.
	digest := md5.New()
	r.Body = io.NopCloser(io.TeeReader(r.Body, digest))
	piece, _, err := s.receive(r)
	if err != nil {
		refuseS3(w, http.StatusBadRequest, "IncompleteBody", err.Error())
		return
	}
	etag := fmt.Sprintf(`"%x"`, digest.Sum(nil))
	s.mutex.Lock()
	if old := s.objects[key]; old != nil && r.Header.Get("If-None-Match") == "*" {
		s.mutex.Unlock()
		os.Remove(piece.path)
		refuseS3(w, http.StatusPreconditionFailed, "PreconditionFailed", key)
		return
	}
	s.replace(key, &object{[]segment{piece}, piece.size, etag, time.Now().UTC(), keptHeader(r.Header)})
	s.mutex.Unlock()
	w.Header().Set("ETag", etag)
}

func (s *store) getObject(w http.ResponseWriter, r *http.Request, key string) {
	s.mutex.Lock()
	found := s.objects[key]
	s.mutex.Unlock()
	if found == nil {
		refuseS3(w, http.StatusNotFound, "NoSuchKey", key)
		return
	}
	if match := r.Header.Get("If-Match"); match != "" && strings.Trim(match, `"`) != strings.Trim(found.etag, `"`) {
		refuseS3(w, http.StatusPreconditionFailed, "PreconditionFailed", key)
		return
	}
	for name, values := range found.header {
		w.Header()[name] = values
	}
	w.Header().Set("ETag", found.etag)
	w.Header().Set("Last-Modified", found.modified.Format(http.TimeFormat))
	if err := sendSegments(w, r, found.segments, found.size); err != nil {
		log.Printf("store: %s %s: %v", r.Method, r.URL, err)
	}
}

func (s *store) remove(key string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.replace(key, nil)
}

// replace swaps the object under key (nil removes it) and frees the old bytes; the mutex is held.
func (s *store) replace(key string, next *object) {
	if old := s.objects[key]; old != nil {
		for _, piece := range old.segments {
			os.Remove(piece.path)
		}
	}
	if next == nil {
		delete(s.objects, key)
	} else {
		s.objects[key] = next
	}
}

var buffers = sync.Pool{New: func() any { block := make([]byte, 256<<10); return &block }}
var zeros = make([]byte, 256<<10)

// receive writes a body to a file of its own. Blocks of zeros become holes, so that a synthetic model of any size needs no room.
func (s *store) receive(r *http.Request) (segment, string, error) {
	s.mutex.Lock()
	s.serial++
	serial := s.serial
	s.mutex.Unlock()
	path := filepath.Join(s.dir, strconv.Itoa(serial))
	file, err := os.Create(path)
	if err != nil {
		return segment{}, "", err
	}
	defer file.Close()
	size, err := writeSparse(file, r.Body)
	if err == nil && size != r.ContentLength {
		err = fmt.Errorf("%d bytes of %d", size, r.ContentLength)
	}
	if err != nil {
		os.Remove(path)
		return segment{}, "", err
	}
	// Looks like the MD5 that S3 gives a part, says only which request this was.
	return segment{path, size}, fmt.Sprintf(`"%032x"`, serial), nil
}

func writeSparse(file *os.File, body io.Reader) (int64, error) {
	block := buffers.Get().(*[]byte)
	defer buffers.Put(block)
	var size int64
	for {
		count, err := io.ReadFull(body, *block)
		if !bytes.Equal((*block)[:count], zeros[:count]) {
			if _, err := file.WriteAt((*block)[:count], size); err != nil {
				return size, err
			}
		}
		size += int64(count)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return size, file.Truncate(size)
		}
		if err != nil {
			return size, err
		}
	}
}

// keptHeader is what S3 gives back with the object.
func keptHeader(header http.Header) http.Header {
	kept := http.Header{"Content-Type": {"binary/octet-stream"}}
	for name, values := range header {
		if name == "Content-Type" || strings.HasPrefix(name, "X-Amz-Meta-") {
			kept[name] = values
		}
	}
	return kept
}

type s3Error struct {
	XMLName xml.Name `xml:"Error"`
	Code    string
	Message string
}

func refuseS3(w http.ResponseWriter, status int, code, message string) {
	answerXML(w, status, s3Error{Code: code, Message: message})
}

func refuseUnknown(w http.ResponseWriter, r *http.Request) {
	log.Printf("store: not known: %s %s", r.Method, r.URL)
	refuseS3(w, http.StatusNotImplemented, "NotImplemented", r.Method+" "+r.URL.String())
}

func answerXML(w http.ResponseWriter, status int, value any) {
	text, err := xml.Marshal(value)
	if err != nil {
		log.Fatal(err)
	}
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(xml.Header)+len(text)))
	w.WriteHeader(status)
	io.WriteString(w, xml.Header)
	w.Write(text)
}
