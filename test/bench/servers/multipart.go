package main

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net/http"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"
)

// partsPage is S3's page of ListParts.
const partsPage = 1000

func (s *store) createUpload(w http.ResponseWriter, r *http.Request, key string) {
	s.mutex.Lock()
	s.serial++
	id := fmt.Sprintf("upload-%d", s.serial)
	s.uploads[id] = &upload{id: id, key: key, created: time.Now().UTC(), parts: map[int]part{}, header: keptHeader(r.Header)}
	s.mutex.Unlock()
	answerXML(w, http.StatusOK, struct {
		XMLName               xml.Name `xml:"InitiateMultipartUploadResult"`
		Bucket, Key, UploadId string
	}{Bucket: s.bucket, Key: key, UploadId: id})
}

func (s *store) putPart(w http.ResponseWriter, r *http.Request, id, numberText string) {
	number, err := strconv.Atoi(numberText)
	if err != nil || number < 1 || number > 10_000 {
		refuseS3(w, http.StatusBadRequest, "InvalidArgument", "partNumber "+numberText)
		return
	}
	piece, etag, err := s.receive(r)
	if err != nil {
		refuseS3(w, http.StatusBadRequest, "IncompleteBody", err.Error())
		return
	}
	s.mutex.Lock()
	running := s.uploads[id]
	if running != nil {
		if old, again := running.parts[number]; again {
			os.Remove(old.path)
		}
		running.parts[number] = part{piece, etag, time.Now().UTC()}
	}
	s.mutex.Unlock()
	if running == nil {
		os.Remove(piece.path)
		refuseS3(w, http.StatusNotFound, "NoSuchUpload", id)
		return
	}
	w.Header().Set("ETag", etag)
}

func (s *store) completeUpload(w http.ResponseWriter, r *http.Request, key, id string) {
	var wanted struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	if err := xml.NewDecoder(r.Body).Decode(&wanted); err != nil {
		refuseS3(w, http.StatusBadRequest, "MalformedXML", err.Error())
		return
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	running := s.uploads[id]
	if running == nil || running.key != key {
		refuseS3(w, http.StatusNotFound, "NoSuchUpload", id)
		return
	}
	done := &object{modified: time.Now().UTC(), header: running.header}
	joined := md5.New()
	for _, want := range wanted.Part {
		piece, there := running.parts[want.PartNumber]
		if !there || strings.Trim(want.ETag, `"`) != strings.Trim(piece.etag, `"`) {
			refuseS3(w, http.StatusBadRequest, "InvalidPart", strconv.Itoa(want.PartNumber))
			return
		}
		digest, _ := hex.DecodeString(strings.Trim(piece.etag, `"`))
		joined.Write(digest)
		done.segments = append(done.segments, piece.segment)
		done.size += piece.size
	}
	// What is left over after this is what the caller did not name.
	for _, want := range wanted.Part {
		delete(running.parts, want.PartNumber)
	}
	done.etag = fmt.Sprintf(`"%x-%d"`, joined.Sum(nil), len(wanted.Part))
	s.drop(running)
	s.replace(key, done)
	answerXML(w, http.StatusOK, struct {
		XMLName           xml.Name `xml:"CompleteMultipartUploadResult"`
		Bucket, Key, ETag string
	}{Bucket: s.bucket, Key: key, ETag: done.etag})
}

func (s *store) abortUpload(w http.ResponseWriter, id string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	running := s.uploads[id]
	if running == nil {
		refuseS3(w, http.StatusNotFound, "NoSuchUpload", id)
		return
	}
	s.drop(running)
	w.WriteHeader(http.StatusNoContent)
}

// drop forgets an upload and the bytes it still owns; the mutex is held.
func (s *store) drop(running *upload) {
	for _, piece := range running.parts {
		os.Remove(piece.path)
	}
	delete(s.uploads, running.id)
}

func (s *store) listParts(w http.ResponseWriter, r *http.Request, id string) {
	type entry struct {
		PartNumber   int
		LastModified string
		ETag         string
		Size         int64
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	running := s.uploads[id]
	if running == nil {
		refuseS3(w, http.StatusNotFound, "NoSuchUpload", id)
		return
	}
	marker, _ := strconv.Atoi(r.URL.Query().Get("part-number-marker"))
	numbers := make([]int, 0, len(running.parts))
	for number := range running.parts {
		if number > marker {
			numbers = append(numbers, number)
		}
	}
	sort.Ints(numbers)
	cut := len(numbers) > partsPage
	numbers = numbers[:min(len(numbers), partsPage)]
	answer := struct {
		XMLName               xml.Name `xml:"ListPartsResult"`
		Bucket, Key, UploadId string
		IsTruncated           bool
		NextPartNumberMarker  int
		Part                  []entry
	}{Bucket: s.bucket, Key: running.key, UploadId: id, IsTruncated: cut}
	for _, number := range numbers {
		piece := running.parts[number]
		answer.Part = append(answer.Part, entry{number, stamp(piece.modified), piece.etag, piece.size})
		answer.NextPartNumberMarker = number
	}
	answerXML(w, http.StatusOK, answer)
}

// stamp is the time format of S3's listings.
func stamp(moment time.Time) string { return moment.Format("2006-01-02T15:04:05.000Z") }
